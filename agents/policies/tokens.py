"""``TokenPolicy``: a policy over the tokens of the model that is trained, wherever they are sampled."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from steptool_env.formats import CallFormat

from ..chat.base import Prompts
from ..chat.reading import Reading
from ..parallel.profiling import Profiler
from .base import Streaming

__all__ = ["TokenPolicy"]


@runtime_checkable
class TokenPolicy(Streaming, Protocol):
    """What training needs of the policy that plays; ``LMPolicy`` and ``ServedPolicy`` have it."""

    prompts: Prompts
    reading: Reading
    call_format: CallFormat
    generator: torch.Generator
    """Draws one seed per episode, in the order in which they begin."""
    profiler: Profiler

    def forget(self) -> None:
        """Drop all running episodes; needed whenever the model's weights have changed."""
        ...
