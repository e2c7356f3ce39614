"""Rollouts: every task once, in order, however many environments play."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from lms import language_model
from toy import Counting

from steptool_agents.policies.base import OraclePolicy
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.collect import _may_wait, rollout
from steptool_agents.trajectory import Generation, Trajectory
from steptool_env import Tool, Toolkit, tool
from steptool_env.env import StepToolEnv
from steptool_env.rewards import Normalize, make_shaper
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.types import Observation, ToolCall

TASKS = [5, 0, 3, 3, 1, 9, 0]


class Watched(OraclePolicy):
    """The oracle, and how many episodes ran at each step."""

    def __init__(self) -> None:
        self.running: list[int] = []

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        assert len({id(env) for env in envs}) == len(envs) == len(observations)
        for observation, env in zip(observations, envs, strict=True):
            assert env.episode is not None and observation["messages"] == env.episode.messages
        self.running.append(len(envs))
        return super().act(observations, envs)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 12])
def test_every_task_once_in_order(width: int) -> None:
    policy = Watched()
    ended: list[Trajectory] = []
    trajectories = rollout(policy, [StepToolEnv(Counting()) for _ in range(width)], TASKS, on_done=ended.append)
    assert [one.task.id for one in trajectories] == [f"count-{task + 3}" for task in TASKS]
    # Counting to n takes n calls and finish.
    assert [len(one.steps) for one in trajectories] == [task + 4 for task in TASKS]
    assert [one.success for one in trajectories] == [1.0] * len(TASKS)
    assert sorted(map(id, ended)) == sorted(map(id, trajectories))
    assert policy.running[0] == min(width, len(TASKS))
    assert sum(policy.running) == sum(task + 4 for task in TASKS)


def test_an_environment_takes_the_next_task_at_once() -> None:
    policy = Watched()
    rollout(policy, [StepToolEnv(Counting()) for _ in range(2)], [0] * 6)  # 4 steps each
    assert policy.running == [2] * 12


def test_steps_hold_what_happened() -> None:
    (one,) = rollout(OraclePolicy(), [StepToolEnv(Counting())], [0])
    assert [step.transition.step for step in one.steps] == [0, 1, 2, 3]
    assert [step.generation.action for step in one.steps] == [step.transition.action for step in one.steps]
    assert [step.transition.terminated for step in one.steps] == [False, False, False, True]
    assert all(step.parts for step in one.steps)
    assert not one.masked.any()


def test_a_step_whose_tool_was_down_is_masked() -> None:
    class Caller(OraclePolicy):
        def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
            calls = super().act(observations, envs)
            return [Generation("", ToolCall("phone")) if len(seen["messages"]) == 3 else call for seen, call in zip(observations, calls, strict=True)]

    one, other = rollout(Caller(), [StepToolEnv(Counting())], [0, 1])
    assert one.masked.tolist() == [False, True]
    assert (one.terminated, one.truncated, one.success) == (False, True, 0.0)
    assert one.steps[-1].reward == 0.0
    assert len(other.steps) == 2


def test_nothing_to_play() -> None:
    assert rollout(OraclePolicy(), [StepToolEnv(Counting())], []) == []


def test_a_model_plays_the_same_again() -> None:
    lm = language_model()

    def play() -> list[Trajectory]:
        return rollout(LMPolicy(lm, max_new_tokens=6, seed=4), [StepToolEnv(Counting(max_steps=3)) for _ in range(2)], [0, 1, 2])

    assert play() == play()


@pytest.mark.parametrize("width", [1, 2, 5])
def test_greedy_play_does_not_depend_on_the_number_of_environments(width: int) -> None:
    lm = language_model()

    def play(width: int) -> list[list[tuple[int, ...]]]:
        policy = LMPolicy(lm, max_new_tokens=6, temperature=0.0)
        trajectories = rollout(policy, [StepToolEnv(Counting(max_steps=4)) for _ in range(width)], [0, 1, 2, 3, 4])
        return [[step.generation.token_ids for step in one.steps] for one in trajectories]

    assert play(width) == play(3)


def test_slow_tools_run_while_the_model_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that may wait run in threads: several at once, each environment by itself, with the same outcome."""
    monkeypatch.setattr("steptool_agents.rollouts.collect._may_wait", lambda env, generation: isinstance(env, Slow))
    import time

    busy: set[int] = set()
    most = [0]
    lock = threading.Lock()

    class Slow(StepToolEnv):
        def step(self, action):  # type: ignore[no-untyped-def]
            with lock:
                assert id(self) not in busy
                busy.add(id(self))
                most[0] = max(most[0], len(busy))
            time.sleep(0.02)
            with lock:
                busy.remove(id(self))
            return super().step(action)

    lm = language_model()

    def play(kind: type[StepToolEnv]) -> list[Trajectory]:
        return rollout(LMPolicy(lm, max_new_tokens=6, seed=4), [kind(Counting(max_steps=3)) for _ in range(4)], list(range(8)))

    slow, fast = play(Slow), play(StepToolEnv)
    assert most[0] > 1
    assert [[step.generation.token_ids for step in one.steps] for one in slow] == [[step.generation.token_ids for step in one.steps] for one in fast]


def test_a_tool_that_raises_in_a_thread_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steptool_agents.rollouts.collect._may_wait", lambda env, generation: True)

    class Broken(StepToolEnv):
        def step(self, action):  # type: ignore[no-untyped-def]
            if self.episode is not None and len(self.episode) == 1:
                raise ZeroDivisionError
            return super().step(action)

    with pytest.raises(ZeroDivisionError):
        rollout(LMPolicy(language_model(), max_new_tokens=4), [Broken(Counting()) for _ in range(2)], [0, 1, 2])


def test_slow_tools_run_at_the_same_time_also_for_a_policy_that_is_asked_for_the_whole_batch() -> None:
    """No clock: a call ends only when all four episodes are in it at once."""
    together = threading.Barrier(4, timeout=60.0)

    @tool
    def meet() -> str:
        """Wait for the others."""
        return str(together.wait() >= 0)

    class Meeting(OraclePolicy):
        def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
            calls = super().act(observations, envs)
            return [Generation("", ToolCall("meet")) if len(seen["messages"]) == 1 else call for seen, call in zip(observations, calls, strict=True)]

    suite = Counting()
    suite.tools = [*suite.tools, meet]
    trajectories = rollout(Meeting(), [StepToolEnv(suite) for _ in range(4)], [5, 0, 3, 1])
    assert [one.steps[0].transition.result.content for one in trajectories] == ["True"] * 4
    assert [(one.task.id, one.success) for one in trajectories] == [(f"count-{task + 3}", 1.0) for task in (5, 0, 3, 1)]


def test_a_shaper_with_a_state_sees_the_steps_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steptool_agents.rollouts.collect._may_wait", lambda env, generation: True)
    seen: set[int] = set()

    class Watching(StepToolEnv):
        def step(self, action):  # type: ignore[no-untyped-def]
            seen.add(threading.get_ident())
            return super().step(action)

    rollout(OraclePolicy(), [Watching(Counting(), Normalize(make_shaper("final"))) for _ in range(2)], [0, 1])
    assert seen == {threading.get_ident()}


def test_a_slow_toolkit_may_wait() -> None:
    inner = Counting().toolkit(Counting()[0])
    slow = FaultyToolkit(inner, latency=0.01)
    assert [slow.may_wait(name) for name in ("add", "finish")] == [True, False]
    assert not FaultyToolkit(inner, rate=0.5).may_wait("add")
    assert Toolkit([Tool("ask", "", {"type": "object"}, str, waits=True)]).may_wait("ask")
    assert not inner.may_wait("nothing")


def test_only_tools_with_a_time_limit_may_wait() -> None:
    env = StepToolEnv("worlds", level=1)
    env.reset(seed=0)
    assert not _may_wait(env, Generation("", env.solution()[0]))
    assert not _may_wait(env, Generation("", ToolCall("nothing")))

    @tool(timeout=5.0)
    def ask() -> str:
        """Ask somebody."""
        return "x"

    suite = Counting()
    suite.tools = [*suite.tools, ask]
    other = StepToolEnv(suite)
    other.reset(seed=0)
    assert _may_wait(other, Generation("", ToolCall("ask")))
    assert not _may_wait(other, Generation("", ToolCall("add", {"amount": 1})))
