"""``Policy``: chooses actions. Also the policies that need no model: the oracle and random play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from steptool_env.env import StepToolEnv
from steptool_env.scripted import GIVE_UP
from steptool_env.types import Observation, ToolCall

from ..trajectory import Generation

__all__ = ["OraclePolicy", "Policy", "RandomPolicy", "Streaming"]


class Policy(Protocol):
    """Chooses one action for each of a batch of episodes."""

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Return one generation per observation.

        Args:
            observations: The current observation of each episode.
            envs: The environments that the episodes run in, in the same order. A model must read the observations only; the
                environment tells apart two episodes whose transcripts are equal.
        """
        ...


@runtime_checkable
class Streaming(Policy, Protocol):
    """A policy that also takes one episode at a time, while it still works on the actions of others."""

    def submit(self, observation: Observation, env: StepToolEnv) -> None:
        """Request the next action of an episode."""
        ...

    def poll(self) -> list[tuple[StepToolEnv, Generation]]:
        """Continue for a while and return the actions that are complete; perhaps none."""
        ...

    def leave(self, env: StepToolEnv) -> None:
        """Forget an episode that has ended."""
        ...


class OraclePolicy:
    """Plays the suite's own solution, step by step: the upper bound of every table."""

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Return the next call of each task's solution; see ``Policy``."""
        return [_scripted((env.solution() or [GIVE_UP])[0]) for env in envs]


class RandomPolicy:
    """Plays valid random calls: the lower bound of every table.

    Args:
        seed: The same seed plays the same calls.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Return one random valid call per observation; see ``Policy``."""
        generations = []
        for env in envs:
            episode = env.episode
            if episode is not None and not len(episode):
                # Seeded by the task, so that the result depends neither on the batch nor on the order.
                env.action_space.seed(abs(hash_text(f"{self.seed}/{env.task.id}")))
            call = env.action_space.sample()
            generations.append(_scripted(ToolCall(call["name"], call["arguments"])))
        return generations


def hash_text(text: str) -> int:
    """Return an unsigned 32-bit number that depends on the text alone, unlike ``hash``."""
    import zlib

    return zlib.crc32(text.encode())


def _scripted(call: ToolCall) -> Generation:
    return Generation(call.as_json(), call)
