"""``monte-carlo``: what a call contributed, measured by simulation."""

from __future__ import annotations

import copy
import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from steptool_env.env import Snapshot, StepToolEnv
from steptool_env.errors import InvalidArgument, NotSupported
from steptool_env.scripted import NoisyOracle, ScriptedPolicy
from steptool_env.tasks import TaskSuite, make_suite
from steptool_env.types import Transition, whose

__all__ = ["MonteCarlo", "success_rate"]


class MonteCarlo:
    """r_t = β·(v_{t+1} − v_t), plus the verdict, where v is the success rate of rollouts from before and after the call.

    Known in hindsight: the episode is played again, the environment is forked before and after every call, and a
    simulating policy plays each fork to its end. What is estimated is Q(s_t, a_t) − V(s_t) of that policy. Each v_t is
    estimated once and used on both sides, so that noise cancels along an episode: the contributions sum to the verdict
    less v_0, whatever the detours, and cannot be farmed.

    It takes a suite whose state can be copied, and tools that answer the same call in the same state in the same way.

    Args:
        rollouts: Simulations per state; the standard error of v is at most 0.5 / √rollouts.
        beta: Weight of the contribution.
        policy: What simulates; by default the suite's solution with a random valid call in three steps of ten, so that
            it takes a suite that knows solutions.
        suite: Where the tasks come from, a name or a suite; by default that of the environment that got this shaper.
        max_steps: Overrides the tasks' step budgets, as in the environment.
        seed: Seed of the simulations; each task and step has its own stream derived from it.

    Raises:
        InvalidArgument: ``rollouts`` is not a positive integer.
    """

    def __init__(
        self,
        rollouts: int = 8,
        beta: float = 0.5,
        policy: ScriptedPolicy | None = None,
        suite: str | TaskSuite | None = None,
        max_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(rollouts, int) or rollouts < 1:
            raise InvalidArgument(f"rollouts must be a positive integer, got {rollouts!r}")
        self.rollouts, self.beta, self.seed, self.max_steps = rollouts, beta, seed, max_steps
        self.policy = policy or NoisyOracle(0.3)
        self.suite = None if suite is None else make_suite(suite)

    def bind(self, suite: TaskSuite, max_steps: int | None) -> Self:
        """Return a copy for this suite and step budget, unless they were given before."""
        if self.suite is not None:
            return self
        twin = copy.copy(self)
        twin.suite, twin.max_steps = suite, max_steps
        return twin

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        outcome = episode[-1].outcome
        return {"con": 0.0, "solved": outcome.solved if outcome is not None else 0.0}

    def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[list[Mapping[str, float] | None]]:
        return [self._label(transitions) for transitions in episodes]

    def contributions(self, transitions: Sequence[Transition]) -> list[float]:
        """Return v_{t+1} − v_t, in [−1, 1], for every step of an episode.

        Raises:
            InvalidArgument: The shaper knows no suite, or replaying the episode leads to other results.
            NotSupported: The suite cannot be copied in mid-episode.
        """
        if self.suite is None:
            raise InvalidArgument("monte-carlo must know the suite to simulate: give it to an environment first, or pass suite=")
        if not self.suite.can_snapshot:
            raise NotSupported(f"suite {self.suite.name!r} cannot be copied in mid-episode (can_snapshot is False), so monte-carlo cannot simulate it")
        env = StepToolEnv(self.suite, "final", max_steps=self.max_steps)
        task = transitions[0].task.id
        env.reset(options={"task": task})
        values = [self._value(env, task, 0)]
        for transition in transitions:
            if whose(transition.result.error) == "infrastructure":  # a fault of the infrastructure is not played again
                values.append(values[-1])
                break
            env.step(transition.action)
            assert env.episode is not None
            if env.episode[-1].result != transition.result:
                step, got = transition.step, env.episode[-1].result.content[:80]
                raise InvalidArgument(f"step {step} of task {task!r} gave {got!r} when played again, not {transition.result.content[:80]!r}; tools must repeat")
            ended = transition.outcome
            values.append(ended.solved if ended is not None else self._value(env, task, transition.step + 1))
        values += [values[-1]] * (len(transitions) + 1 - len(values))
        return [after - before for before, after in itertools.pairwise(values)]

    def _label(self, transitions: Sequence[Transition]) -> list[Mapping[str, float] | None]:
        gains = self.contributions(transitions)
        return [{"con": self.beta * gain, "solved": self((transition,))["solved"]} for transition, gain in zip(transitions, gains, strict=True)]

    def _value(self, env: StepToolEnv, task: str, step: int) -> float:
        rng = np.random.default_rng([self.seed, zlib.crc32(task.encode()), step])
        return success_rate(env, env.snapshot(), self.policy, self.rollouts, rng)


def success_rate(env: StepToolEnv, state: Snapshot, policy: ScriptedPolicy, rollouts: int, rng: np.random.Generator) -> float:
    """Return the mean verdict of rollouts from a state.

    Args:
        env: An environment of the state's suite. A fork of it plays; it stays as it is itself.
        state: Where each rollout starts; its episode has not ended.
        policy: What plays.
        rollouts: How many.
        rng: What the policy draws from.
    """
    fork: Any = StepToolEnv(env.suite, "final", max_steps=env.max_steps)
    total = 0.0
    for _ in range(rollouts):
        fork.restore(state)
        ended, info = False, dict[str, Any]()
        while not ended:
            _, _, terminated, truncated, info = fork.step(policy(fork, rng))
            ended = terminated or truncated
        total += info["success"]
    return total / rollouts
