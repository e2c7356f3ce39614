"""Mistakes in demonstrations: no harm, no dead end, nothing learnt from them, and the rest of the episode still solves the task."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from lms import language_model
from toy import Counting, add

from steptool_agents.learning.batches import collate
from steptool_agents.policies.demonstrator import DemonstrationPolicy
from steptool_agents.policies.local import LMPolicy
from steptool_agents.policies.mistakes import draw_mistake
from steptool_agents.rollouts.collect import rollout
from steptool_agents.trajectory import Trajectory
from steptool_env import FINISH, Episode, Task, ToolCall, tool
from steptool_env.env import StepToolEnv
from steptool_env.formats import make_format
from steptool_env.tasks.worlds import Worlds


@pytest.mark.parametrize("call_format", ["hermes", "react"])
def test_every_mistake_can_be_repaired(call_format: str) -> None:
    form, rng = make_format(call_format), np.random.default_rng(0)
    env = StepToolEnv(Worlds(level=2))
    seen: Counter[str] = Counter()
    for task in range(60):
        env.reset(options={"task": task})
        while calls := env.solution():
            text = draw_mistake(env, form, rng)
            if text is None:
                env.step(calls[0])
                continue
            action = form.parse(text)
            assert action not in calls
            env.step(action)
            assert env.episode is not None
            seen[env.episode[-1].result.error] += 1
        assert env.episode is not None
        outcome = env.episode[-1].outcome
        assert outcome is not None and outcome.solved == 1.0
    assert set(seen) >= {"", "rejected", "unknown_tool", "malformed"}  # of every kind that a model makes
    assert seen[""] > sum(seen.values()) / 10


def test_drawing_leaves_the_environment_as_it_is() -> None:
    env = StepToolEnv(Worlds(level=3))
    env.reset(options={"task": 4})
    env.step(env.solution()[0])
    before = env.solution()
    assert env.episode is not None
    length = len(env.episode)
    for seed in range(10):
        draw_mistake(env, make_format("hermes"), np.random.default_rng(seed))
    assert env.solution() == before
    assert len(env.episode) == length


def test_no_mistake_where_there_is_no_time_for_one() -> None:
    env = StepToolEnv(Worlds(level=2), max_steps=2)
    env.reset(options={"task": 0})
    assert len(env.solution()) == 2
    assert draw_mistake(env, make_format("hermes"), np.random.default_rng(0)) is None


@pytest.mark.parametrize("call_format", ["hermes", "react"])
def test_demonstrations_with_mistakes(call_format: str) -> None:
    """The tokens of a mistake are context of the next step; only the solution's calls are learnt."""
    policy = LMPolicy(language_model(), call_format)
    tasks = list(range(20))
    envs = [StepToolEnv(Worlds(level=2)) for _ in range(4)]
    made = rollout(DemonstrationPolicy(policy, 0.5, np.random.default_rng(0)), envs, tasks)
    assert all(one.success == 1.0 for one in made)
    slips = [step for one in made for step in one.steps if not step.generation.token_ids]
    assert len(slips) > 10
    ends = policy.lm.tokenizer.eos_token_id
    for step in slips:
        assert policy.lm.tokenizer.decode([token for token in step.generation.prompt_ids if token != ends]).endswith(step.generation.text)
    batch = collate(made)
    assert batch.weights.tolist() == [float(bool(step.generation.token_ids)) for one in made for step in one.steps]
    again = rollout(DemonstrationPolicy(policy, 0.5, np.random.default_rng(0)), [StepToolEnv(Worlds(level=2)) for _ in range(4)], tasks)
    assert [one.steps for one in again] == [one.steps for one in made]


@tool
def begin() -> str:
    """Begin."""
    return "Begun."


class Beginning(Counting):
    """Its solution begins with a call without arguments, so that no value has been seen where another tool needs one."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = [begin, add, FINISH]

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        rest = super().solution(task, episode)
        return rest if any(one.action == ToolCall("begin") for one in episode) else [ToolCall("begin"), *rest]


class Answering(Counting):
    """There is no tool but ``finish``."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = [FINISH]

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        return [ToolCall("finish", {"answer": "0"})]


class Copyless(Counting):
    can_snapshot = False


class Unsolvable(Counting):
    """It says of every second task that it cannot be solved."""

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        return super().solution(task, episode) if task.data % 2 else []


def shown(suite: Counting, mistakes: float, tasks: int = 4) -> list[Trajectory]:
    policy = LMPolicy(language_model("tiny"), "hermes")
    return rollout(DemonstrationPolicy(policy, mistakes, np.random.default_rng(1)), [StepToolEnv(suite) for _ in range(2)], list(range(tasks)))


@pytest.mark.parametrize("suite", [Beginning(), Copyless()], ids=lambda suite: type(suite).__name__)
def test_own_tools_of_every_kind_can_be_shown_with_mistakes(suite: Counting) -> None:
    assert [one.success for one in shown(suite, 0.9)] == [1.0] * 4
    if not suite.can_snapshot:
        assert all(step.generation.token_ids for one in shown(suite, 0.9) for step in one.steps), "a mistake is tried on a copy: there is none"


def test_where_finish_is_the_only_tool_there_is_no_mistake_to_make() -> None:
    assert [len(one.steps) for one in shown(Answering(), 0.9)] == [1] * 4


def test_nothing_is_learnt_from_a_task_that_cannot_be_solved() -> None:
    made = shown(Unsolvable(), 0.0)
    assert [one.success for one in made] == [1.0, 0.0, 1.0, 0.0]
    for one in made[1::2]:
        (step,) = one.steps
        assert step.generation.action.arguments["give_up"]  # type: ignore[union-attr]
        assert not step.generation.token_ids
