"""The benchmark of deeper tasks: tasks in parts, and what went wrong first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from benchmark_files import load

from steptool_agents.policies.base import OraclePolicy
from steptool_agents.trajectory import Generation
from steptool_env.env import StepToolEnv
from steptool_env.types import ToolCall

deeper = load("deeper")


class Fixed:
    """Always the same call; counts how often it was asked."""

    def __init__(self, call: ToolCall) -> None:
        self.call, self.asked = call, 0

    def act(self, observations: Sequence[Any], envs: Sequence[StepToolEnv]) -> list[Generation]:
        self.asked += len(envs)
        return [Generation(self.call.as_json(), self.call) for _ in envs]


EARLY = ToolCall("finish", {"answer": "nobody"})


def test_tasks_have_their_depth_and_are_not_those_that_are_shown() -> None:
    for depth in deeper.DEPTHS:
        suite, tasks = deeper.tasks_of(depth, 5)
        assert [suite[index].tags["depth"] for index in tasks] == [depth] * 5
    shown = deeper.Worlds(**deeper.TASKS, split="compositions")[: deeper.SHOWN]
    suite, tasks = deeper.tasks_of(8, 5)
    for index in tasks:
        with pytest.raises(KeyError):
            shown.index(suite[index].id)


def test_a_script_makes_the_first_calls() -> None:
    policy = Fixed(EARLY)
    [episodes] = deeper.play([policy], 4, 6, first=partial(deeper._all_but, 1))
    assert [len(one.steps) for one in episodes] == [4] * 6, "three calls of the oracle, and one of the policy"
    assert policy.asked == 6
    assert {deeper.first_mistake(one) for one in episodes} == {(3, "answered too early")}
    [episodes] = deeper.play([OraclePolicy()], 2, 6, first=partial(deeper._as_many, 3), script=deeper.wanderer, room=20)
    assert all(one.success == 1 and len(one.steps) == 6 for one in episodes), "three useless calls, two useful ones, the answer"
    assert {deeper.first_mistake(one) for one in episodes} == {(0, "useless call")}


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (EARLY, "answered too early"),
        (ToolCall("finish", {"answer": "", "give_up": True}), "gave up"),
        (ToolCall("get_nothing", {}), "invalid call"),
    ],
)
def test_the_first_mistake(call: ToolCall, kind: str) -> None:
    [episodes] = deeper.play([Fixed(call)], 2, 3)
    assert {deeper.first_mistake(one) for one in episodes} == {(0, kind)}


def test_a_wrong_answer_comes_last_and_no_mistake_is_none() -> None:
    [episodes] = deeper.play([Fixed(EARLY)], 2, 3, first=partial(deeper._all_but, 0))
    assert {deeper.first_mistake(one) for one in episodes} == {(2, "wrong answer")}
    [episodes] = deeper.play([OraclePolicy()], 6, 3)
    assert {deeper.first_mistake(one) for one in episodes} == {None}


def test_what_a_useless_call_was_instead() -> None:
    suite, tasks = deeper.tasks_of(6, 40)
    env, found = StepToolEnv(suite, "final"), set()
    for task in tasks:
        env.reset(options={"task": task})
        wanted = env.solution()[0]
        named = [field for field in ("ward", "guide", "supplier", "fee") if field != wanted.arguments.get("field")]
        for field in named:
            [[episode]] = [deeper.rollout_tasks(Fixed(ToolCall(wanted.name, {**wanted.arguments, "field": field})), suite, [task], shaper="final", max_steps=1)]
            if deeper.first_mistake(episode) == (0, "useless call"):
                kind = deeper.instead(episode, suite, task)
                later = f"the {field} of" in env.task.instruction
                assert kind == ("a field asked for later" if later else "a field not asked for")
                found.add(kind)
    assert found == {"a field asked for later", "a field not asked for"}
