"""The budget of calls, told with the task and with every result."""

from __future__ import annotations

import pickle

import pytest
from toy import Counting

from steptool_env import Malformed, StepToolEnv, ToolCall, make_suite
from steptool_env.tasks.wrapped import BudgetShown, Faulty
from steptool_env.testing import check_suite


def told(env: StepToolEnv, *actions: ToolCall | Malformed) -> list[str]:
    """Return the last line of the task and of every answer."""
    observation, _ = env.reset(options={"task": 0})
    lines = [observation["messages"][-1].content.splitlines()[-1]]
    for action in actions:
        lines.append(env.step(action)[0]["messages"][-1].content.splitlines()[-1])
    return lines


CALLS = (ToolCall("nothing"), Malformed("x", "there is no call"))


@pytest.mark.parametrize(("own", "overridden", "most"), [(4, None, 4), (4, 3, 3), (9, 3, 3)])
def test_every_step_counts_also_one_without_a_call(own: int, overridden: int | None, most: int) -> None:
    env = StepToolEnv(BudgetShown(Counting(max_steps=own), overridden), "final", max_steps=overridden)
    assert told(env, *CALLS) == [f"(at most {most} calls)", f"({most - 1} calls left)", f"({most - 2} call{'s' * (most != 3)} left)"]
    assert env.episode is not None
    assert env.episode[1].result.content.endswith(" left)"), "what is stored is what was read"
    assert env.episode[1].result.error == "malformed"


def test_the_suite_is_otherwise_the_same() -> None:
    plain, shown = make_suite("worlds", level=1, split="test"), BudgetShown(make_suite("worlds", level=1, split="test"))
    check_suite(shown, tasks=3)
    assert len(shown) == len(plain)
    assert shown[5].instruction.startswith(plain[5].instruction)
    assert shown.index(plain[5].id) == 5
    assert shown.about().endswith("the budget of calls is shown")
    results = []
    for suite in (plain, shown, Faulty(shown, 0.0), BudgetShown(Faulty(plain, 0.0))):
        env = StepToolEnv(suite)
        env.reset(options={"task": 5})
        rewards, ended = [], False
        while not ended:
            _, reward, terminated, truncated, info = env.step(env.solution()[0])
            rewards.append(reward)
            ended = terminated or truncated
        results.append((rewards, info["success"]))
    assert results == [results[0]] * 4
    assert results[0][1] == 1.0


def test_an_episode_in_mid_flight_is_copied_with_it() -> None:
    env = StepToolEnv(BudgetShown(make_suite("worlds", level=1)))
    told(env, *CALLS)
    twin = env.fork()
    twin.restore(pickle.loads(pickle.dumps(env.snapshot())))
    messages = [one.step(ToolCall("nothing"))[0]["messages"] for one in (env, twin)]
    assert messages[0] == messages[1]
    assert messages[0][-1].content.endswith(" left)")
