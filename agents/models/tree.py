"""``Tree``: token sequences that begin alike, packed so that what they share is there once.

The sequences of a pass are a forest of prefixes. Its nodes, stretches of tokens without a branch, stand one after the other in one row,
depth first, so that everything below a node follows it at once:

    A B C D E       the node A B; below it C D E and F G                row       A B C D E F G
    A B F G                                                            position  0 1 2 3 4 2 3

A token's position is the number of tokens before it on its own path, and it attends to these and to no other. So every state is what it
would be in a row of its own; only attention has to know, and it learns it from the mask that the model asks for (``patterns.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Node", "Tree", "packed", "reading", "tree_of_this_pass"]


class Node(NamedTuple):
    """Tokens without a branch between them: those from ``start`` to ``end`` in the row."""

    start: int
    end: int
    last: int
    """Where the tokens of all nodes below it end; they begin at ``end``."""
    depth: int
    """Position of its first token."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A forest of T tokens."""

    layout: Tensor
    """(n, 4) int64, on the CPU: its nodes, in the order of the row."""
    positions: Tensor
    """(T,) the position of each token."""

    @property
    def nodes(self) -> list[Node]:
        """Its nodes, in the order of the row."""
        return [Node(*numbers) for numbers in self.layout.tolist()]

    def to(self, device: torch.device) -> Tree:
        """Return the tree for a model on a device."""
        return replace(self, positions=self.positions.to(device))


def packed(sequences: Sequence[np.ndarray], common: Sequence[int]) -> tuple[np.ndarray, list[np.ndarray], Tree]:
    """Pack sequences of tokens.

    Args:
        sequences: At least one, each with at least one token (L_i,). Those that begin alike must follow one another, as when they are sorted.
        common: How many tokens each shares with the one before it; the first 0.

    Returns:
        The row (T,); for each sequence, where its tokens are in the row, (L_i,); and the tree.
    """
    paths: list[np.ndarray] = []
    pieces = []
    cuts = {0}
    runs: list[tuple[int, int]] = []  # (first token in the row, its position) of what each sequence adds
    total = 0
    for sequence, count in zip(sequences, common, strict=True):
        new = len(sequence) - count
        if new:  # else the sequence is the beginning of the one before it, or the same
            runs.append((total, count))
            cuts.add(total)
            if count:
                cuts.add(int(paths[-1][count - 1]) + 1)
        paths.append(np.concatenate([paths[-1][:count] if count else np.zeros(0, dtype=np.int64), np.arange(total, total + new)]))
        pieces.append(sequence[count:])
        total += new
    row = np.concatenate(pieces)
    ends = [*(first for first, _ in runs[1:]), total]
    positions = np.concatenate([np.arange(depth, depth + end - start) for (start, depth), end in zip(runs, ends, strict=True)])
    starts = sorted(cuts - {total})
    nodes: list[Node] = []
    for start, end in zip(starts, [*starts[1:], total], strict=True):
        depth = int(positions[start])
        # The first sequence behind it that branches off before it ends what is below it.
        last = next((first for first, shared in runs if first >= end and shared <= depth), total)
        nodes.append(Node(start, end, last, depth))
    return row, paths, Tree(torch.tensor(nodes, dtype=torch.int64), torch.from_numpy(positions))


_TREE: ContextVar[Tree | None] = ContextVar("tree", default=None)


@contextmanager
def reading(tree: Tree) -> Iterator[None]:
    """Let masks be those of this tree within the block."""
    token = _TREE.set(tree)
    try:
        yield
    finally:
        _TREE.reset(token)


def tree_of_this_pass() -> Tree | None:
    """Return the tree whose tokens the model reads in this pass; None: it reads whole rows."""
    return _TREE.get()
