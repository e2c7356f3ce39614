"""The policies that need no model: the upper and the lower bound of every table."""

from __future__ import annotations

import json

import pytest
from toy import Counting

from steptool_agents.policies.base import OraclePolicy, RandomPolicy
from steptool_agents.rollouts.collect import rollout
from steptool_env.env import StepToolEnv
from steptool_env.errors import NotSupported
from steptool_env.tasks.worlds import Worlds
from steptool_env.types import ToolCall


@pytest.mark.parametrize("suite", [Counting(), Counting(turns=2), Worlds(level=2, size=30)], ids=["counting", "two turns", "worlds"])
def test_the_oracle_solves_everything(suite: Counting | Worlds) -> None:
    trajectories = rollout(OraclePolicy(), [StepToolEnv(suite)], list(range(min(len(suite), 30))))
    assert [one.success for one in trajectories] == [1.0] * len(trajectories)


def test_the_oracle_gives_up_where_nothing_helps() -> None:
    class Hopeless(Counting):
        def solution(self, task, episode):  # type: ignore[no-untyped-def]
            return []

    (one,) = rollout(OraclePolicy(), [StepToolEnv(Hopeless())], [0])
    assert one.steps[0].transition.action == ToolCall("finish", {"answer": "", "give_up": True})
    assert (len(one.steps), one.terminated) == (1, True)


def test_the_oracle_needs_a_suite_with_solutions() -> None:
    class Unsolved(Counting):
        def solution(self, task, episode):  # type: ignore[no-untyped-def]
            return super(Counting, self).solution(task, episode)

    with pytest.raises(NotSupported, match="knows no solutions"):
        rollout(OraclePolicy(), [StepToolEnv(Unsolved())], [0])


def test_what_they_say_is_the_call() -> None:
    (one,) = rollout(OraclePolicy(), [StepToolEnv(Counting())], [0])
    for step in one.steps:
        said = json.loads(step.generation.text)
        assert ToolCall(said["name"], said["arguments"]) == step.generation.action
        assert step.generation.token_ids == step.generation.prompt_ids == ()


def actions(seed: int, width: int, tasks: list[int]) -> dict[str, list[object]]:
    trajectories = rollout(RandomPolicy(seed), [StepToolEnv(Worlds(level=1)) for _ in range(width)], tasks)
    assert all(step.transition.result.error in ("", "rejected") for one in trajectories for step in one.steps)
    return {one.task.id: [step.transition.action for step in one.steps] for one in trajectories}


def test_random_play_depends_on_seed_and_task_alone() -> None:
    tasks = list(range(6))
    assert actions(0, 1, tasks) == actions(0, 4, tasks[::-1])
    assert actions(0, 2, tasks) != actions(1, 2, tasks)
    assert len({str(played) for played in actions(0, 2, tasks).values()}) > 1
