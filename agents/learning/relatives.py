"""Which trajectories begin alike, and how they are put together so that what they share is encoded once.

The trajectories of a group share tools and task, and often their first calls; those of other tasks share at least the tools. In
lexicographic order of their tokens, relatives are neighbors: a forest of prefixes is the order and what each has in common with the one
before. So it is cut into micro-batches and dealt to processes where that order is cut, and little is encoded twice.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from ..trajectory import Trajectory

__all__ = ["GRAIN", "Forest", "Units", "relatives_together", "tokens_of"]

GRAIN = 8
"""Beginnings are shared in multiples of so many tokens: a branch costs more than to encode a few of them again."""


class Forest:
    """Sequences in lexicographic order.

    Args:
        sequences: (L_i,) tokens each, at least one.
    """

    def __init__(self, sequences: Sequence[np.ndarray]) -> None:
        keys = [sequence.astype(">u4").tobytes() for sequence in sequences]  # bytes are compared at once
        self.sequences = sequences
        self.order = sorted(range(len(keys)), key=keys.__getitem__)
        self.common = [0, *(_common(sequences[a], sequences[b]) for a, b in itertools.pairwise(self.order))]
        """How many tokens each sequence shares with the one before it in that order, in multiples of ``GRAIN``."""
        self.rank = {index: rank for rank, index in enumerate(self.order)}

    @property
    def tokens(self) -> int:
        """Tokens of the forest: what is shared counts once."""
        return sum(map(len, self.sequences)) - sum(self.common)

    def new(self, index: int, present: Sequence[int]) -> int:
        """Return how many tokens a sequence adds to others.

        Args:
            index: The sequence.
            present: Ranks of the others, in ascending order.
        """
        rank = self.rank[index]
        place = bisect.bisect(present, rank)
        shared = 0
        if place:
            shared = min(self.common[present[place - 1] + 1 : rank + 1], default=len(self.sequences[index]))
        if place < len(present):
            shared = max(shared, min(self.common[rank + 1 : present[place] + 1]))
        return len(self.sequences[index]) - shared


class Units:
    """Units of sequences that stay together, cut into micro-batches and dealt to processes.

    Args:
        units: The sequences of each unit.
    """

    def __init__(self, units: Sequence[Sequence[np.ndarray]]) -> None:
        self.forest = Forest([sequence for unit in units for sequence in unit])
        ends = list(itertools.accumulate(map(len, units), initial=0))
        self.members = [range(start, end) for start, end in itertools.pairwise(ends)]
        self.order = sorted(range(len(units)), key=lambda unit: min(map(self.forest.rank.__getitem__, self.members[unit])))
        """Relatives are neighbors."""

    def shares(self, processes: int) -> list[list[int]]:
        """Return the units of each process: pieces of the order whose sequences have about as many tokens each."""
        counts = np.array([sum(len(self.forest.sequences[index]) for index in self.members[unit]) for unit in self.order])
        middles = np.cumsum(counts) - counts / 2
        owners = (middles * processes / counts.sum()).astype(int)
        return [[unit for unit, owner in zip(self.order, owners, strict=True) if owner == process] for process in range(processes)]

    def micro_batches(self, units: Sequence[int], token_budget: int) -> Iterator[tuple[list[int], int]]:
        """Yield micro-batches, each with its number of tokens: at most ``token_budget``, unless it is one unit.

        Args:
            units: In their order.
            token_budget: Tokens of a forest of their sequences.
        """
        group: list[int] = []
        size = 0
        present: list[int] = []
        for unit in units:
            added = self._add(unit, present)
            if group and size + added > token_budget:
                yield group, size
                group, size, present = [], 0, []
                added = self._add(unit, present)
            group.append(unit)
            size += added
        if group:
            yield group, size

    def _add(self, unit: int, present: list[int]) -> int:
        """Add the ranks of a unit's sequences to those present; return how many tokens that adds."""
        added = 0
        for index in self.members[unit]:
            added += self.forest.new(index, present)
            bisect.insort(present, self.forest.rank[index])
        return added


def tokens_of(trajectory: Trajectory) -> np.ndarray:
    """Return the tokens (L,) of a trajectory, context and actions; one in which there are none counts as one token 0."""
    pieces = [np.asarray(ids, dtype=np.int64) for step in trajectory.steps for ids in (step.generation.prompt_ids, step.generation.token_ids)]
    return np.concatenate(pieces) if any(map(len, pieces)) else np.zeros(1, dtype=np.int64)


def relatives_together(order: Sequence[int], families: Sequence[Hashable]) -> list[int]:
    """Return an order in which the members of a family stand together, where the first of them stood.

    Args:
        order: Indices.
        families: The family of each index.

    >>> relatives_together([3, 0, 2, 1], ["a", "b", "a", "b"])
    [3, 1, 0, 2]
    """
    first: dict[Hashable, int] = {}
    for place, index in enumerate(order):
        first.setdefault(families[index], place)
    return sorted(order, key=lambda index: first[families[index]])


def _common(a: np.ndarray, b: np.ndarray) -> int:
    count = min(len(a), len(b))
    different = a[:count] != b[:count]
    exact = int(different.argmax()) if different.any() else count
    return exact - exact % GRAIN
