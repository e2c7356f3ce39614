"""``Profiler``: where the time of an update went, and how many tokens a second that was.

    with profiler("backward"):
        loss.backward()
        profiler.count("backward", tokens)

Phases may lie within one another; the time of the inner one is not counted to the outer one, so that the seconds of all
phases add up to what the clock shows. A GPU works on after a call has returned: there, the profiler waits for it at the end
of a phase if it is told to (``exact=True``), which costs a little of the speed that it measures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["PHASES", "Profiler"]

PHASES = ("generate", "tools", "encode", "forward", "backward", "optimizer", "critic", "other")
"""Reading and sampling; environments and shapers; text to tokens and tokens to tensors; the passes of training; the rest."""


class Profiler:
    """Adds up seconds and tokens by phase. Costs about a microsecond per phase entered.

    Args:
        exact: Wait for the GPU at the end of each phase.
    """

    def __init__(self, exact: bool = False) -> None:
        self.exact = exact
        self.seconds: dict[str, float] = {}
        self.tokens: dict[str, int] = {}
        self._open: list[str] = []
        self._since = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time of the block to a phase."""
        self._tick()
        self._open.append(phase)
        try:
            yield
        finally:
            if self.exact and torch.cuda.is_available():
                torch.cuda.synchronize()
            self._tick()
            self._open.pop()

    def count(self, phase: str, tokens: int) -> None:
        """Say how many tokens a phase has worked on."""
        self.tokens[phase] = self.tokens.get(phase, 0) + tokens

    def take(self) -> dict[str, dict[str, float]]:
        """Return phase -> ``seconds``, ``share``, ``tokens``, ``tokens_per_second`` since the last call, and begin anew.

        What no phase covers is ``other``.
        """
        total = time.perf_counter() - self._started
        seconds = {**self.seconds, "other": max(0.0, total - sum(self.seconds.values()))}
        table: dict[str, dict[str, float]] = {}
        for phase in [*(name for name in PHASES if name in seconds), *(name for name in seconds if name not in PHASES)]:
            tokens, spent = self.tokens.get(phase, 0), seconds[phase]
            table[phase] = {"seconds": spent, "share": spent / total, "tokens": tokens, "tokens_per_second": tokens / spent if spent else 0.0}
        self.seconds, self.tokens, self._started = {}, {}, time.perf_counter()
        return table

    def _tick(self) -> None:
        now = time.perf_counter()
        if self._open:
            phase = self._open[-1]
            self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now


def rows(profile: dict[str, dict[str, float]]) -> list[tuple[Any, ...]]:
    """Return a profile as the rows of a table: phase, seconds, share in %, tokens, tokens a second; and their sum."""
    found: list[tuple[Any, ...]] = []
    for phase, one in profile.items():
        rate = f"{one['tokens_per_second']:,.0f}" if one["tokens"] else ""
        found.append((phase, f"{one['seconds']:.2f}", f"{100 * one['share']:.1f}", f"{one['tokens']:,.0f}" if one["tokens"] else "", rate))
    total = sum(one["seconds"] for one in profile.values())
    return [*found, ("all", f"{total:.2f}", "100.0", "", "")]
