"""``Profiler``: where the time of an update went, and how many tokens a second that was.

    with profiler("backward"):
        loss.backward()
        profiler.count("backward", tokens)

Phases may be nested; the time of the inner phase is not counted in the outer one, so that the seconds of all phases add up to the
wall time. A GPU works on after a call has returned: with ``exact=True`` the profiler waits for it at the end of a phase, which
costs a little of the speed that it measures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["PHASES", "Profiler", "metrics", "rows"]

PHASES = ("generate", "tools", "encode", "forward", "backward", "optimizer", "critic", "other")
"""Prefill and sampling; environments and shapers; text to tokens and tokens to tensors; the passes of training; the rest."""


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
            if self.exact:
                import torch  # here, because the table of a finished run needs no model

                torch.cuda.synchronize()
            self._tick()
            self._open.pop()

    def count(self, phase: str, tokens: int) -> None:
        """Add to the number of tokens that a phase has processed."""
        self.tokens[phase] = self.tokens.get(phase, 0) + tokens

    def take(self) -> dict[str, dict[str, float]]:
        """Return phase -> ``seconds``, ``share``, ``tokens``, ``tokens_per_second`` since the last call, and start over.

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


def metrics(profile: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return a profile as flat numbers for ``metrics.jsonl``, with ``tokens_per_second`` over all phases and all of the time."""
    seconds = sum(entry["seconds"] for entry in profile.values())
    tokens = sum(entry["tokens"] for phase, entry in profile.items() if phase != "backward")  # the same tokens as in the forward passes
    found = {"tokens_per_second": tokens / seconds if seconds else 0.0}
    for phase, entry in profile.items():
        found |= {f"seconds/{phase}": entry["seconds"], f"tokens/{phase}": float(entry["tokens"])}
    return found


def rows(updates: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Return the rows of a table: phase, seconds an update, share in %, tokens an update, tokens a second; the total last.

    Args:
        updates: The metrics of each update, with what ``metrics`` returned among them.
    """
    if not updates:
        return []
    names = list(dict.fromkeys(name.removeprefix("seconds/") for update in updates for name in update if name.startswith("seconds/")))
    names.sort(key=lambda name: PHASES.index(name) if name in PHASES else len(PHASES))
    spent = {name: sum(update.get(f"seconds/{name}", 0.0) for update in updates) / len(updates) for name in names}
    tokens = {name: sum(update.get(f"tokens/{name}", 0.0) for update in updates) / len(updates) for name in names}
    total = sum(spent.values()) or 1.0
    found = []
    for name in names:
        rate = f"{tokens[name] / spent[name]:,.0f}" if tokens[name] and spent[name] else ""
        found.append((name, f"{spent[name]:.2f}", f"{100 * spent[name] / total:.1f}", f"{tokens[name]:,.0f}" if tokens[name] else "", rate))
    return [*found, ("all", f"{sum(spent.values()):.2f}", "100.0", "", "")]
