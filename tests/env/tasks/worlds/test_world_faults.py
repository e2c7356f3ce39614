"""Faults in ``worlds``: each can be got over, is met once, and costs what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steptool_env import StepToolEnv, ToolCall
from steptool_env.tasks.worlds import Worlds
from steptool_env.tasks.worlds.faults import COST, FAULTS

MESSAGES = {"down": "is down for a moment", "limited": "Call wait", "stale": '"stale": true', "renamed": "has been renamed"}


def find(fault: str, **options: Any) -> StepToolEnv:
    """Return an environment at a task whose first tool has this fault."""
    env = StepToolEnv(Worlds(level=2, depth=(3, 4), faults=2, families="lookup", **options), max_steps=50)
    for index in range(500):
        env.reset(options={"task": index})
        plan = env.task.data
        if plan.faults.get(plan.ways[0][0].call.name) == fault and len(plan.faults) == 2:
            return env
    raise AssertionError(f"no task of 500 has the fault {fault}")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("replies", ["record", "field"])
def test_a_fault_is_met_once_and_got_over(fault: str, replies: str) -> None:
    env = find(fault, replies=replies)
    assert env.episode is not None
    solution = env.solution()
    way, used = env.task.data.ways[0], {step.call.name for step in env.task.data.ways[0]}
    assert len(solution) - 1 == len(way) + sum(COST[kind] for tool, kind in env.task.data.faults.items() if tool in used)
    first = solution[0]
    env.step(first)
    assert MESSAGES[fault] in env.episode[-1].result.content
    assert env.episode[-1].result.error == {"stale": ""}.get(fault, "transient")
    assert env.solution() == solution[1:]
    for number, call in enumerate(solution[1:], 1):
        *_, info = env.step(call)
        assert call.name == "finish" or info["progress"] == pytest.approx((number + 1) / (len(solution) - 1))
    assert info["success"] == 1.0
    contents = [one.result.content for one in env.episode]
    assert sum(MESSAGES[fault] in content for content in contents) == 1


def test_a_limit_lasts_until_one_waits() -> None:
    env = find("limited")
    first, wait, again = env.solution()[:3]
    assert (wait, first) == (ToolCall("wait", {}), again)
    assert "nothing to wait for" in env.step(wait)[0]["messages"][-1].content
    before = [env.step(first)[4] for _ in range(3)]
    assert [info["tool_error"] for info in before] == ["transient"] * 3 and len({info["progress"] for info in before}) == 1
    assert f"{first.name} can be called again" in env.step(wait)[0]["messages"][-1].content
    assert env.step(again)[4]["tool_error"] == ""


def test_a_stale_result_teaches_nothing_and_differs() -> None:
    env = find("stale")
    first = env.solution()[0]
    stale = json.loads(env.step(first)[0]["messages"][-1].content)
    assert stale.pop("stale") is True
    fresh = json.loads(env.step(first)[0]["messages"][-1].content)
    assert stale.keys() == fresh.keys() and all(stale[name] != fresh[name] for name in fresh)


def test_the_old_name_of_a_parameter_stays_wrong_and_the_new_one_works_at_once() -> None:
    env = find("renamed")
    old, new = env.solution()[:2]
    assert old.name == new.name and old.arguments != new.arguments
    assert env.fork().step(new)[4]["tool_error"] == ""
    for error in ("transient", "bad_arguments"):  # nobody could know at first; then it was told
        assert env.step(old)[4]["tool_error"] == error
    assert env.step(ToolCall(old.name, {**old.arguments, **new.arguments}))[4]["tool_error"] == "bad_arguments"
    assert env.step(new)[4]["tool_error"] == ""
    assert next(iter(old.arguments)) in env.episode.toolkit.schemas  # type: ignore[union-attr]


def test_look_alikes_tell_another_story() -> None:
    env = StepToolEnv(Worlds(level=2, lookalikes=2, families="lookup", depth=(3, 3)), max_steps=50)
    env.reset(options={"task": 0})
    (call, *_), doubles = env.solution(), [name for name in env.task.tools if name.startswith("get_archived")]
    assert len(doubles) == 2
    for step in env.task.data.ways[0]:
        double = step.call.name.replace("get_", "get_archived_")
        if double in doubles:
            *_, info = env.step(ToolCall(double, step.call.arguments))
            assert info["progress"] == 0.0 and info["tool_error"] == ""
            assert env.solution()[0] == call
            assert env.episode is not None
            old, now = json.loads(env.episode[-1].result.content), json.loads(env.fork().step(step.call)[0]["messages"][-1].content)
            assert all(old[name] != now[name] for name in now)
