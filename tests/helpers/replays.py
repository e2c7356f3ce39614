"""Episodes that are played a second time, by this package's own rollout: what another library paid must be what we pay."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from steptool_agents.policies.base import OraclePolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.trajectory import Generation, Trajectory
from steptool_env import Action, Malformed, StepToolEnv, ToolCall
from steptool_env.types import Observation

__all__ = ["Sequel", "call", "replay"]

_NONSENSE = ("no_such_tool", {}), ("finish", {"wrong": 1}), ("finish", {})


class Sequel:
    """Plays these actions, one after the other."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self.actions = iter(actions)

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        return [Generation("", next(self.actions)) for _ in observations]


def replay(task: int, actions: Sequence[Action], words: str = "", **options: Any) -> Trajectory:
    """Return the episode with these actions, up to its end. If they do not end it, it is left with ``words``: no call, and the last step of the budget."""
    env = StepToolEnv(**options)
    env.reset(options={"task": task})
    for number, action in enumerate(actions, 1):
        if any(env.step(action)[2:4]):
            actions = actions[:number]
            break
    else:
        actions = [*actions, Malformed(words, "no call")]
        options["max_steps"] = len(actions)
    (trajectory,) = rollout(Sequel(actions), [StepToolEnv(**options)], [task])
    return trajectory


def call(rng: random.Random, env: StepToolEnv, *, offered: bool) -> ToolCall:
    """Return a call as a poor model makes it: mostly the right one, else any valid one, or a wrong one (of a tool on offer, if ``offered``)."""
    kind = rng.random()
    if kind < 0.6:
        action = OraclePolicy().act([], [env])[0].action
        assert isinstance(action, ToolCall)
        return action
    if kind < 0.8:
        env.action_space.seed(rng.randrange(2**31))
        chosen = env.action_space.sample()
        return ToolCall(chosen["name"], chosen["arguments"])
    return ToolCall(*rng.choice(_NONSENSE[1:] if offered else _NONSENSE))
