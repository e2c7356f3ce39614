"""Contributions by simulation: exact where the rollouts are certain, close where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from toy import Counting

from steptool_env import StepToolEnv, ToolCall, make_shaper, make_suite
from steptool_env.errors import InvalidArgument, NotSupported
from steptool_env.monte_carlo import MonteCarlo, success_rate
from steptool_env.rewards import label
from steptool_env.scripted import NoisyOracle, oracle, random_caller
from steptool_env.types import Transition


def played(env: StepToolEnv, *calls: ToolCall, task: int = 0) -> list[Transition]:
    env.reset(options={"task": task})
    for call in calls:
        env.step(call)
    assert env.episode is not None
    return list(env.episode)


def add(amount: int) -> ToolCall:
    return ToolCall("add", {"amount": amount})


FINISH = ToolCall("finish", {"answer": "3"})


def test_certain_rollouts_by_hand() -> None:
    """The oracle counts by ones: from n it needs 3 − n calls and the answer. With 4 steps, nothing may be wasted."""
    env = StepToolEnv(Counting(), MonteCarlo(rollouts=1, policy=oracle), max_steps=4)
    shaper = env.shaper
    assert isinstance(shaper, MonteCarlo)
    assert shaper.contributions(played(env, add(1), add(1), add(1), FINISH)) == [0.0, 0.0, 0.0, 0.0]
    # the roll of the die costs the success; nothing brings it back
    assert shaper.contributions(played(env, ToolCall("roll"), add(1), add(1), FINISH)) == [-1.0, 0.0, 0.0, 0.0]
    # a step of two makes room for one wasted call
    assert shaper.contributions(played(env, add(2), ToolCall("roll"), add(1), FINISH)) == [0.0, 0.0, 0.0, 0.0]
    assert shaper.contributions(played(env, ToolCall("roll"), add(2), add(1), FINISH)) == [-1.0, 1.0, 0.0, 0.0]
    ((first, second, *_),) = label(shaper, [played(env, ToolCall("roll"), add(2), add(1), FINISH)])
    assert (first, second) == ({"con": -0.5, "solved": 0.0}, {"con": 0.5, "solved": 0.0})


def test_contributions_sum_to_the_verdict_less_the_first_value_whatever_the_detours() -> None:
    env = StepToolEnv("worlds", "monte-carlo", level=2)
    rng = np.random.default_rng(0)
    shaper = env.shaper
    assert isinstance(shaper, MonteCarlo)
    for task in range(6):
        starts = set()
        for policy in (oracle, NoisyOracle(0.5), random_caller):
            env.reset(options={"task": task})
            ended = False
            while not ended:
                *_, terminated, truncated, info = env.step(policy(env, rng))
                ended = terminated or truncated
            assert env.episode is not None
            starts.add(round(info["success"] - sum(shaper.contributions(list(env.episode))), 9))
        assert len(starts) == 1  # v_0, which no policy can influence


def test_an_estimate_is_close_to_the_truth() -> None:
    """Finish or not by a coin: from one call before the end, half of the rollouts solve."""

    def coin(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
        return FINISH if rng.random() < 0.5 else ToolCall("finish", {"answer": "0"})

    env = StepToolEnv(Counting())
    played(env, add(3))
    assert success_rate(env, env.snapshot(), coin, 2000, np.random.default_rng(0)) == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)


def test_the_same_seed_estimates_the_same_and_the_episode_goes_on_as_if_nothing_had_happened() -> None:
    env = StepToolEnv("worlds", make_shaper("monte-carlo", rollouts=4), level=3)
    rng = np.random.default_rng(1)
    env.reset(options={"task": 3})
    for _ in range(3):
        env.step(NoisyOracle(0.5)(env, rng))
    before = env.snapshot()
    assert env.episode is not None
    first, again = (label(env.shaper, [list(env.episode)]) for _ in range(2))
    assert first == again
    after = env.snapshot()
    assert (after.transitions, after.messages, after.progress, after.generators) == (before.transitions, before.messages, before.progress, before.generators)
    assert (after.state.known, after.state.statuses) == (before.state.known, before.state.statuses)


def test_what_it_cannot_do() -> None:
    class Sealed(Counting):
        can_snapshot = False

    class Forgetful(Counting):
        """Its tools do not repeat: each episode starts with another counter."""

        offset = 0

        def toolkit(self, task):  # type: ignore[no-untyped-def]
            kit = super().toolkit(task)
            type(self).offset += 1
            kit.state.value = self.offset
            return kit

    with pytest.raises(InvalidArgument, match="pass suite="):
        MonteCarlo().contributions(played(StepToolEnv(Counting()), add(1)))
    env = StepToolEnv(Sealed(), "monte-carlo")
    with pytest.raises(NotSupported, match="mid-episode"):
        label(env.shaper, [played(env, add(1))])
    env = StepToolEnv(Forgetful(), "monte-carlo")
    with pytest.raises(InvalidArgument, match="tools must repeat"):
        label(env.shaper, [played(env, add(1))])
    with pytest.raises(InvalidArgument, match="got 0"):
        MonteCarlo(rollouts=0)


def test_a_fault_of_the_infrastructure_contributes_nothing() -> None:
    env = StepToolEnv(Counting(), MonteCarlo(rollouts=1, policy=oracle))
    (steps,) = label(env.shaper, [played(env, add(1), ToolCall("phone"))])
    assert steps[1] == {"con": 0.0, "solved": 0.0}


def test_a_suite_given_by_hand_wins() -> None:
    suite = make_suite("worlds", level=1)
    shaper = MonteCarlo(suite=suite)
    assert shaper.bind(make_suite("worlds", level=2), 3) is shaper
