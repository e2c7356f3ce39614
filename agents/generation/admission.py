"""Admission to the cache of an ``Engine``: its sequences, the limits, and which waiting sequences may start."""

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
    """Most tokens, padding included, in one forward pass that reads (prefill)."""
    cache_budget: int = 262_144
    """Most tokens, padding included, in the cache."""


@dataclass(slots=True, eq=False)
class TokenSequence:
    """A growing sequence of token ids: one running episode."""

    key: Hashable
    draws: random.Random
    ids: list[int]
    """All tokens so far, the action in progress included."""
    prompt_length: int
    """How many of them are the first observation."""
    read: int = 0
    """How many of them the cache holds."""
    row: int = -1
    """Its row in the cache; -1: none."""
    prefix: Prefix | None = None
    shared: int = 0
    """How many tokens of the prefix it begins with; its row has what follows."""
    source: Prefix | None = None
    """A prefix that is copied into its row instead, before the rest is read."""
    copied: int = 0
    """How many tokens of that."""
    status: str = "waiting"
    """``waiting`` to be read, ``writing``, or ``idle``: its action was handed out."""
    state: Tensor | None = None
    """(H,) the hidden state of the last token that was read."""
    first: Tensor | None = None
    """(H,) the mean hidden state over the first observation."""
    written: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    forcing: list[int] = field(default_factory=list)
    """Tokens that are written next, whatever the model would write."""
    forced: tuple[int, int] = (0, 0)
    """Which tokens of the action were written so: from, to before."""
    kept: Any = None
    """What the model keeps of the tokens that were read, where sequences do not share a cache."""
    guide: Any = None
    """Says which tokens are allowed next; None allows all."""


def admit(
    waiting: Sequence[TokenSequence],
    resident: Sequence[TokenSequence],
    writing: Sequence[TokenSequence],
    limits: Limits,
    evict: Callable[[TokenSequence], None],
) -> list[TokenSequence]:
    """Return the waiting sequences that fit into the cache, after idle ones were evicted where that was needed.

    Args:
        waiting: Sequences that are to be read.
        resident: Sequences that have a row.
        writing: Sequences whose action is in progress: these keep their rows.
        limits: Of the cache.
        evict: Takes a sequence's row away.
    """
    # Sequences with a row come first: their tokens need not be read again.
    with_row = [sequence for sequence in waiting if sequence.row >= 0]
    without_row = [sequence for sequence in waiting if sequence.row < 0]
    order = with_row + without_row
    if _fits([*resident, *without_row], waiting, limits):
        return order
    admitted: list[TokenSequence] = []
    for candidate in order:
        if admitted and candidate.row < 0 and with_row and not writing:
            break  # those that have rows first
        active = [*writing, *admitted, candidate]
        active_ids = {id(sequence) for sequence in active}
        idle = [sequence for sequence in resident if id(sequence) not in active_ids]
        while idle and not _fits(active + idle, [*admitted, candidate], limits):
            evict(idle.pop())
        resident = [sequence for sequence in resident if sequence.row >= 0]
        if len(active) > 1 and not _fits(active, [*admitted, candidate], limits):
            break
        admitted.append(candidate)
    return admitted


def columns(rows: Sequence[TokenSequence], starting: Sequence[TokenSequence], limits: Limits) -> int:
    """Return how many tokens the longest of these rows will hold, without its prefix, when its action is complete.

    Args:
        rows: At least one sequence.
        starting: Those that are about to write.
        limits: Of an action.
    """
    starting_ids = {id(sequence) for sequence in starting}

    def final_length(sequence: TokenSequence) -> int:
        writes = sequence.status == "writing" or id(sequence) in starting_ids
        return len(sequence.ids) - sequence.shared + (limits.max_new_tokens - len(sequence.written) if writes else 0)

    return max(map(final_length, rows))


def prefix_tokens(rows: Sequence[TokenSequence]) -> int:
    """Return how many tokens the prefixes of these rows hold, each counted once."""
    return sum({id(sequence.prefix): len(sequence.prefix.ids) for sequence in rows if sequence.prefix is not None}.values())


def _fits(rows: Sequence[TokenSequence], starting: Sequence[TokenSequence], limits: Limits) -> bool:
    return len(rows) * columns(rows, starting, limits) + prefix_tokens(rows) <= limits.cache_budget
