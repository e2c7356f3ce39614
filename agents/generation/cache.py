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

from ..models.attention import Shared
from ..models.patterns import Pattern

__all__ = ["Prefix", "SlotCache"]

SLACK = 1.5
"""On a CPU, columns that are still empty are attended to, and masked, while there are at most so many columns per column in use: products read
rows that lie one after the other in memory, but copy those with gaps in between, which takes longer than the products themselves."""


@dataclass(frozen=True, eq=False, slots=True)
class Prefix:
    """Encoded tokens that several rows begin with."""

    ids: list[int]
    keys: list[Tensor]
    """Per layer (heads, P, head size): what the model caches as its keys."""
    values: list[Tensor]
    """Per layer (heads, P, head size), which may be another size."""
    sums: Tensor
    """(P, H) sums of the hidden states of the first 1, 2, … tokens; of ``General`` (H,), of all."""
    kept: Any = None
    """``General``: what the model keeps of these tokens."""

    @property
    def token_bytes(self) -> int:
        """How many bytes of a layer a token takes."""
        return sum(part.shape[0] * part.shape[2] * part.element_size() for part in (self.keys[0], self.values[0]))


class SlotCache(Cache):
    """A key/value cache with one row per running episode.

    Call ``arrange`` to choose the rows, then for every forward pass ``place`` (which returns the positions for it), and give
    the model the cache as ``past_key_values`` while attention attends to it (``attention.attending``).
    """

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.lengths = torch.zeros(0, dtype=torch.long)  # (rows,) tokens of each row after its prefix
        self.prefixes: list[tuple[Prefix | None, int]] = []
        """Per row: the prefix that it begins with, and how many tokens of it."""
        self.fresh = False
        self.calls = 0
        self.updated = -1
        self._keys: list[Tensor] = []  # per layer (rows, heads, columns, head size)
        self._values: list[Tensor] = []
        self.reserved = 0
        """Final length of the rows in tokens; 0 where that is not known."""
        self._rows: slice | Tensor = slice(0, 0)
        self._index = torch.zeros(0, dtype=torch.long)
        self._positions = torch.zeros(0, dtype=torch.long)
        self._width = 0
        self._reach = 0
        """How many columns of the rows are attended to: as far as the width of this pass at least."""
        self._queries = torch.zeros(0, dtype=torch.long)
        """(n, Q) on the CPU: the column of each query in its row."""
        self._offsets = torch.zeros(0, dtype=torch.long)
        """(n,) on the CPU: how many tokens of its prefix each row begins with."""
        self._taking_part: list[tuple[Prefix | None, int]] = []
        self._own: dict[tuple[Pattern | None, int], tuple[int, Tensor]] = {}
        self._groups: dict[Pattern | None, list[_Group]] = {}

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

    def fill(self, row: int, prefix: Prefix, length: int) -> None:
        """Put the first tokens of a prefix into an empty row, as if they had been read there.

        Args:
            row: The row.
            prefix: Of P tokens.
            length: How many of them, at most P.
        """
        if not self._keys:
            wide = max(self.reserved, length)
            for store, parts in ((self._keys, prefix.keys), (self._values, prefix.values)):
                store += [part.new_zeros((len(self.lengths), part.shape[0], wide, part.shape[2])) for part in parts]
        for number in range(len(self._keys)):
            if self._keys[number].shape[2] < length:
                self._grow(number, length)
            self._keys[number][row, :, :length] = prefix.keys[number][:, :length]
            self._values[number][row, :, :length] = prefix.values[number][:, :length]
        self.lengths[row] = length

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
        self._rows, self._width = rows if isinstance(rows, slice) else rows.to(device), int(targets.max()) + 1
        self.calls, self.updated = 0, -1
        self._positions, self._queries = targets.to(device), targets
        indices = torch.arange(len(self.lengths))[rows]
        self._index = indices.to(device)[:, None]
        self.lengths[rows] = start + counts
        self._taking_part = [self.prefixes[row] for row in indices.tolist()]
        self._offsets = torch.tensor([length for _, length in self._taking_part])
        self.fresh = not bool(start.any()) and not bool(self._offsets.any())
        self._own, self._groups = {}, {}
        return (targets + self._offsets[:, None]).to(device)

    def own(self, pattern: Pattern | None) -> tuple[int, Tensor]:
        """Return the first column of this pass's rows that is within reach, and their mask from there; see ``attention.Attended``."""
        found = self._own.get((pattern, self._reach))
        if found is None:
            start = 0
            if pattern is not None:
                first = pattern.first(self._queries + self._offsets[:, None]) - self._offsets[:, None]  # (n, Q)
                start = max(0, int(first.min()))
                if self._reach <= SLACK * (self._reach - start):
                    start = 0  # the same here: a gap costs more than what it leaves out
            columns = torch.arange(start, self._reach, device=self._positions.device)
            hidden = columns > self._positions[:, :, None]  # (n, Q, W)
            if pattern is not None:
                hidden |= columns < first.to(columns.device)[:, :, None]
            found = self._own[pattern, self._reach] = start, _additive(hidden)
        return found

    def shared(self, layer: int, pattern: Pattern | None) -> list[Shared]:
        """Return the prefixes of the rows of this pass in the form that attention takes; see ``attention.Attended``."""
        groups = self._groups.get(pattern)
        if groups is None:
            groups = self._groups[pattern] = _groups(self._taking_part, self._queries, pattern, self._positions.device)
        return [Shared(one.rows, one.prefix.keys[layer][:, one.start : one.end], one.prefix.values[layer][:, one.start : one.end], one.mask) for one in groups]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append this pass's keys and values (n, heads, Q, head size) to the rows; return those of the rows: (n, heads, W, head size)."""
        self.updated = layer_idx
        if value_states.dtype == _autocast(key_states.device.type):
            # Rotary embeddings leave keys in float32, and attention would round all that are kept, the same way, in each pass.
            key_states = key_states.to(value_states.dtype)
        if layer_idx == len(self._keys):
            shape = (len(self.lengths), key_states.shape[1], max(self.reserved, self._width), key_states.shape[3])
            self._keys.append(key_states.new_zeros(shape))
            self._values.append(value_states.new_zeros(shape[:3] + value_states.shape[3:]))
        if self._keys[layer_idx].shape[2] < self._width:
            self._grow(layer_idx, self._width)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._index, :, self._positions] = key_states.transpose(1, 2)
        values[self._index, :, self._positions] = value_states.transpose(1, 2)
        whole = isinstance(self._rows, slice) and keys.device.type == "cpu" and keys.shape[2] <= SLACK * self._width
        self._reach = keys.shape[2] if whole else self._width
        return keys[self._rows, :, : self._reach], values[self._rows, :, : self._reach]

    def _grow(self, layer_idx: int, width: int) -> None:
        # In steps of an eighth: a decode loop adds one column at a time, and each growth copies everything.
        columns = self.reserved if self.reserved >= width else max(width + 32, width * 9 // 8)
        for store in (self._keys, self._values):
            old = store[layer_idx]
            new = old.new_zeros((*old.shape[:2], columns, old.shape[3]))
            new[:, :, : old.shape[2]] = old
            store[layer_idx] = new

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the length of the longest row, without its prefix."""
        return int(self.lengths.max()) if len(self.lengths) else 0


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of a pass that begin with tokens of the same prefix, and which of these are within reach of any of them."""

    prefix: Prefix
    start: int
    end: int
    rows: Tensor
    mask: Tensor | None
    """As in ``attention.Shared``, over the tokens from ``start`` to ``end``."""


def _groups(taking_part: Sequence[tuple[Prefix | None, int]], queries: Tensor, pattern: Pattern | None, device: torch.device) -> list[_Group]:
    """Return the rows (n,) of a pass by prefix; ``queries`` (n, Q) are their columns."""
    rows_of: dict[int, list[int]] = {}
    for row, (prefix, _) in enumerate(taking_part):
        if prefix is not None:
            rows_of.setdefault(id(prefix), []).append(row)
    groups: list[_Group] = []
    for rows in rows_of.values():
        prefix, lengths = taking_part[rows[0]][0], torch.tensor([taking_part[row][1] for row in rows])
        assert prefix is not None
        start, end = 0, int(lengths.max())
        first = None
        if pattern is not None:
            first = pattern.first(queries[rows] + lengths[:, None])  # (g, Q)
            start = max(0, int(first.min()))
            if start >= end:
                continue  # out of reach
        columns = torch.arange(start, end, device=device)
        hidden = None
        if int(lengths.min()) < end:
            hidden = (columns >= lengths.to(device)[:, None])[:, None]  # (g, 1, P)
        if first is not None and int(first.max()) > start:
            out_of_reach = columns < first.to(device)[:, :, None]  # (g, Q, P)
            hidden = out_of_reach if hidden is None else hidden | out_of_reach
        groups.append(_Group(prefix, start, end, torch.tensor(rows, device=device), None if hidden is None else _additive(hidden)))
    return groups


def _autocast(device: str) -> torch.dtype | None:
    """Return the type that products round their factors to."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _additive(hidden: Tensor) -> Tensor:
    """Return -inf where a key is hidden, else 0."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)
