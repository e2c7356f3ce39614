"""``TokenPolicy``: a policy over the tokens of the model that is trained, wherever they are sampled; and the seeds of its episodes."""

from __future__ import annotations

from collections import deque
from typing import Protocol, runtime_checkable

import torch

from steptool_env.formats import CallFormat

from ..chat.base import Prompts
from ..chat.reading import Reading
from ..parallel.profiling import Profiler
from .base import Streaming

__all__ = ["TokenPolicy", "draw_seeds", "next_seed"]


@runtime_checkable
class TokenPolicy(Streaming, Protocol):
    """What training needs of the policy that plays; ``LMPolicy`` and ``ServedPolicy`` have it."""

    prompts: Prompts
    reading: Reading
    call_format: CallFormat
    generator: torch.Generator
    """Draws one seed per episode, in the order in which they begin."""
    seeds: deque[int]
    """Drawn already, for the episodes that begin next: so the processes of a run share the seeds as they share the tasks."""
    profiler: Profiler

    def forget(self) -> None:
        """Drop all running episodes; needed whenever the model's weights have changed."""
        ...

    def close(self) -> None:
        """Write nothing more."""
        ...


def draw_seeds(generator: torch.Generator, count: int) -> list[int]:
    """Draw the seeds of so many episodes."""
    return [int(torch.randint(2**62, (), generator=generator)) for _ in range(count)]


def next_seed(policy: TokenPolicy) -> int:
    """Return the seed of an episode that begins."""
    return policy.seeds.popleft() if policy.seeds else draw_seeds(policy.generator, 1)[0]
