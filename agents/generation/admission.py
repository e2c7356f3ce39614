"""Who gets room in the cache of an ``Engine``: its sequences, the limits, and which of those that wait may begin."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .cache import Prefix

__all__ = ["Limits", "TokenSequence", "admit", "columns", "prefix_tokens"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds an action and the memory."""

    max_new_tokens: int = 96
    temperature: float = 1.0
    """Of sampling; 0 takes the most likely token."""
    token_budget: int = 16_384
    """Most tokens, padding included, in one forward pass that reads."""
    cache_budget: int = 262_144
    """Most tokens, padding included, in the cache."""


@dataclass(slots=True, eq=False)
class TokenSequence:
    """A sequence of token ids that grows."""

    key: Hashable
    draws: random.Random
    ids: list[int]
    """All tokens so far, the action in progress included."""
    prompt_length: int
    """How many of them are the first observation."""
    read: int = 0
    """How many of them the cache holds."""
    row: int = -1
    prefix: Prefix | None = None
    shared: int = 0
    status: str = "waiting"
    """``waiting`` to be read, ``writing``, or ``idle``: its action was handed out."""
    state: Tensor | None = None
    first: Tensor | None = None
    written: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    guide: Any = None
    """Says which tokens are allowed next; None allows all."""


def admit(
    waiting: Sequence[TokenSequence],
    resident: Sequence[TokenSequence],
    writing: Sequence[TokenSequence],
    limits: Limits,
    evict: Callable[[TokenSequence], None],
) -> list[TokenSequence]:
    """Return the waiting sequences that fit into the cache, after others have made room for them if need be.

    Args:
        waiting: Who wants to be read.
        resident: Who has a row.
        writing: Whose action is in progress: these keep their rows.
        limits: Of the cache.
        evict: Takes a sequence's row away.
    """
    # Whoever has a row comes first: its tokens need not be read again.
    order = [one for one in waiting if one.row >= 0] + [one for one in waiting if one.row < 0]
    if _fits([*resident, *order[len([one for one in waiting if one.row >= 0]) :]], waiting, limits):
        return order
    admitted: list[TokenSequence] = []
    for one in order:
        if admitted and one.row < 0 and order[0].row >= 0 and not writing:
            break  # those that have rows first
        rows = [*writing, *admitted, one]
        ours = {id(row) for row in rows}
        others = [row for row in resident if id(row) not in ours]
        while others and not _fits(rows + others, [*admitted, one], limits):
            evict(others.pop())  # the last that is not at work gives its row up
        resident = [row for row in resident if row.row >= 0]
        if len(rows) > 1 and not _fits(rows, [*admitted, one], limits):
            break
        admitted.append(one)
    return admitted


def columns(rows: Sequence[TokenSequence], starting: Sequence[TokenSequence], limits: Limits) -> int:
    """Return how long the longest of these rows will be when its action is written.

    Args:
        rows: At least one.
        starting: Those that are about to write.
        limits: Of an action.
    """
    longest = limits.max_new_tokens
    begin = {id(one) for one in starting}
    return max(len(one.ids) - one.shared + (longest - len(one.written) if one.status == "writing" or id(one) in begin else 0) for one in rows)


def prefix_tokens(rows: Sequence[TokenSequence]) -> int:
    """Return how many tokens the prefixes of these rows hold, each counted once."""
    return sum({id(one.prefix): len(one.prefix.ids) for one in rows if one.prefix is not None}.values())


def _fits(rows: Sequence[TokenSequence], starting: Sequence[TokenSequence], limits: Limits) -> bool:
    return len(rows) * columns(rows, starting, limits) + prefix_tokens(rows) <= limits.cache_budget
