"""``SlotCache``: keys and values of many episodes side by side, in rows of different lengths.

An episode keeps its row from step to step, so each of its tokens is encoded once. Rows have no holes: new tokens are
written at the end of each row, independent of the other rows. What many rows begin with, such as a long list of tools, is a
``Prefix``: encoded once and kept once, however many rows refer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

__all__ = ["Prefix", "SlotCache"]


@dataclass(frozen=True, eq=False, slots=True)
class Prefix:
    """Encoded tokens that several rows begin with."""

    ids: list[int]
    keys: list[Tensor]
    """Per layer (heads, P, head size)."""
    values: list[Tensor]
    """Per layer (heads, P, head size)."""
    sums: Tensor
    """(P, H) sums of the hidden states of the first 1, 2, … tokens."""


class SlotCache(Cache):
    """A key/value cache with one row per running episode.

    Call ``arrange`` to choose the rows, then for every forward pass ``place`` (which returns the positions for it), and give
    the model the cache both as ``past_key_values`` and as ``slots``.
    """

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.lengths = torch.zeros(0, dtype=torch.long)  # (rows,) tokens of each row after its prefix
        self.prefixes: list[tuple[Prefix | None, int]] = []
        """Per row: the prefix that it begins with, and how many tokens of it."""
        self.fresh = False
        self.mask = torch.zeros(0)
        self.calls = 0
        self._keys: list[Tensor] = []  # per layer (rows, heads, columns, head size)
        self._values: list[Tensor] = []
        self.reserved = 0
        """Final length of the rows in tokens; 0 where that is not known."""
        self._rows: slice | Tensor = slice(0, 0)
        self._index = torch.zeros(0, dtype=torch.long)
        self._positions = torch.zeros(0, dtype=torch.long)
        self._width = 0
        self._groups: list[tuple[Prefix, int, Tensor, Tensor | None]] = []

    @property
    def tokens(self) -> int:
        """How many tokens the memory holds, padding included: rows × columns, and every prefix once."""
        prefixes = {id(prefix): len(prefix.ids) for prefix, _ in self.prefixes if prefix is not None}
        return len(self.lengths) * self.columns + sum(prefixes.values())

    @property
    def columns(self) -> int:
        """How many tokens there is memory for in each row."""
        return self._keys[0].shape[2] if self._keys else 0

    def arrange(self, rows: Sequence[int], columns: int = 0) -> None:
        """Select and reorder the rows of the cache; -1 stands for a new, empty row.

        Args:
            rows: Indices of the present rows, in their new order.
            columns: Final length of a row in tokens, where that is known: memory is then allocated once.
        """
        self.reserved = columns
        if list(rows) == list(range(len(self.lengths))) and columns <= self.columns:
            return
        index = torch.tensor(rows, dtype=torch.long).clamp(min=0)
        fresh = torch.tensor(rows, dtype=torch.long) < 0
        old = self.lengths if len(self.lengths) else torch.zeros(1, dtype=torch.long)
        self.lengths = torch.where(fresh, 0, old[index])
        self.prefixes = [self.prefixes[row] if row >= 0 else (None, 0) for row in rows]
        if fresh.all():
            self._keys, self._values = [], []
            return
        keep = int(self.lengths.max())
        wide = max(keep, columns)
        for store in (self._keys, self._values):
            for number, layer in enumerate(store):
                new = layer.new_zeros((len(rows), layer.shape[1], wide, layer.shape[3]))
                new[:, :, :keep] = layer[:, :, :keep].index_select(0, index.to(layer.device))
                store[number] = new

    def clear(self, row: int) -> None:
        """Empty a row."""
        self.lengths[row] = 0
        self.prefixes[row] = (None, 0)

    def copy(self, source: int, targets: Sequence[int]) -> None:
        """Copy the contents of a row to other rows."""
        length = int(self.lengths[source])
        for store in (self._keys, self._values):
            for layer in store:
                layer[list(targets), :, :length] = layer[source, :, :length]
        for target in targets:
            self.lengths[target] = length
            self.prefixes[target] = self.prefixes[source]

    def take(self, ids: list[int], sums: Tensor) -> Prefix:
        """Return the contents of the cache, which must have one row, as a prefix.

        Args:
            ids: P token ids of the row.
            sums: (P, H) sums of the hidden states of the first 1, 2, … tokens.
        """
        length = int(self.lengths[0])
        return Prefix(ids, [layer[0, :, :length].clone() for layer in self._keys], [layer[0, :, :length].clone() for layer in self._values], sums)

    def place(self, rows: slice | Tensor, counts: Tensor, columns: int, device: torch.device) -> Tensor:
        """Prepare a forward pass that appends tokens to some rows.

        Args:
            rows: The n rows that take part: a range without a step, read in place, or (n,) indices, which costs
                a copy of those rows in every layer.
            counts: (n,) how many of the ``columns`` tokens of each row are real; the rest is padding on the right.
            columns: Q, the width of the pass.
            device: Where the model is.

        Returns:
            Positions (n, Q).
        """
        start = self.lengths[rows]
        # (n, Q). Padding goes to the first free column, where it is overwritten later: it needs no memory.
        targets = start[:, None] + torch.minimum(torch.arange(columns), counts[:, None])
        self._rows, self._width, self.calls = rows if isinstance(rows, slice) else rows.to(device), int(targets.max()) + 1, 0
        self._positions = targets.to(device)
        indices = torch.arange(len(self.lengths))[rows]
        self._index = indices.to(device)[:, None]
        self.lengths[rows] = start + counts
        prefixes = [self.prefixes[row] for row in indices.tolist()]
        shared = torch.tensor([length for _, length in prefixes])
        self.fresh = not bool(start.any()) and not bool(shared.any())
        if not self.fresh:
            later = torch.arange(self._width, device=device) > self._positions[:, :, None]  # (n, Q, W)
            self.mask = torch.zeros(later.shape, device=device).masked_fill_(later, -torch.inf)
        self._groups = _groups(prefixes, device)
        return (targets + shared[:, None]).to(device)

    def shared(self, layer: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Return the prefixes of the rows of this pass in the form that attention takes; see ``attention.Attended``."""
        return [(rows, prefix.keys[layer][:, :longest], prefix.values[layer][:, :longest], mask) for prefix, longest, rows, mask in self._groups]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append this pass's keys and values (n, heads, Q, head size) to the rows; return those of the rows: (n, heads, width, head size)."""
        if layer_idx == len(self._keys):
            shape = (len(self.lengths), key_states.shape[1], max(self.reserved, self._width), key_states.shape[3])
            self._keys.append(key_states.new_zeros(shape))
            self._values.append(value_states.new_zeros(shape[:3] + value_states.shape[3:]))
        if self._keys[layer_idx].shape[2] < self._width:
            self._grow(layer_idx)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._index, :, self._positions] = key_states.transpose(1, 2)
        values[self._index, :, self._positions] = value_states.transpose(1, 2)
        return keys[self._rows, :, : self._width], values[self._rows, :, : self._width]

    def _grow(self, layer_idx: int) -> None:
        # In steps of an eighth: a decode loop adds one column at a time, and each growth copies everything.
        columns = self.reserved if self.reserved >= self._width else max(self._width + 32, self._width * 9 // 8)
        for store in (self._keys, self._values):
            old = store[layer_idx]
            new = old.new_zeros((*old.shape[:2], columns, old.shape[3]))
            new[:, :, : old.shape[2]] = old
            store[layer_idx] = new

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the length of the longest row, without its prefix."""
        return int(self.lengths.max()) if len(self.lengths) else 0


def _groups(prefixes: Sequence[tuple[Prefix | None, int]], device: torch.device) -> list[tuple[Prefix, int, Tensor, Tensor | None]]:
    """Return for each prefix: itself, the most tokens of it that a row uses, its rows, and a mask where some rows use fewer."""
    rows_of: dict[int, list[int]] = {}
    for row, (prefix, _) in enumerate(prefixes):
        if prefix is not None:
            rows_of.setdefault(id(prefix), []).append(row)
    groups: list[tuple[Prefix, int, Tensor, Tensor | None]] = []
    for rows in rows_of.values():
        prefix, lengths = prefixes[rows[0]][0], torch.tensor([prefixes[row][1] for row in rows], device=device)
        assert prefix is not None
        longest = int(lengths.max())
        mask = None
        if int(lengths.min()) < longest:
            beyond = torch.arange(longest, device=device) >= lengths[:, None]
            mask = torch.zeros(beyond.shape, device=device).masked_fill_(beyond, -torch.inf)
        groups.append((prefix, longest, torch.tensor(rows, device=device), mask))
    return groups
