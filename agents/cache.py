"""``SlotCache``: keys and values of many episodes side by side, each row with a length of its own.

An episode keeps its row from step to step, so each of its tokens is encoded once. Rows have no holes: new tokens are
written at the end of each row, whatever the others hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

__all__ = ["SlotCache"]


class SlotCache(Cache):
    """A key/value cache with one row per running episode.

    Call ``arrange`` to choose the rows, then for every forward pass ``place`` (which returns positions and mask for it).
    """

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.lengths = torch.zeros(0, dtype=torch.long)  # (rows,) tokens in each row
        self._keys: list[Tensor] = []  # per layer (rows, heads, columns, head size)
        self._values: list[Tensor] = []
        self._columns = 0
        self._rows: slice | Tensor = slice(0, 0)
        self._index = torch.zeros(0, dtype=torch.long)
        self._positions = torch.zeros(0, dtype=torch.long)
        self._width = 0

    def arrange(self, rows: Sequence[int]) -> None:
        """Make the cache consist of these former rows, in this order; -1 stands for a new, empty row."""
        if list(rows) == list(range(len(self.lengths))):
            return
        index = torch.tensor(rows, dtype=torch.long).clamp(min=0)
        fresh = torch.tensor(rows, dtype=torch.long) < 0
        old = self.lengths if len(self.lengths) else torch.zeros(1, dtype=torch.long)
        self.lengths = torch.where(fresh, 0, old[index])
        if fresh.all():
            self._keys, self._values, self._columns = [], [], 0
            return
        keep = int(self.lengths.max())
        self._keys = [layer[:, :, :keep].index_select(0, index.to(layer.device)) for layer in self._keys]
        self._values = [layer[:, :, :keep].index_select(0, index.to(layer.device)) for layer in self._values]
        self._columns = keep

    def place(self, rows: slice | Tensor, counts: Tensor, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Prepare a forward pass that appends tokens to some rows.

        Args:
            rows: The rows that take part, n of them: a range without a step, read in place, or (n,) numbers, which costs
                a copy of those rows in every layer.
            counts: (n,) how many of the ``columns`` tokens of each row are real; the rest is padding on the right.
            columns: Q, the width of the pass.
            device: Where the model is.

        Returns:
            Positions (n, Q) and a boolean attention mask (n, 1, Q, width), True where a token may look.
        """
        start = self.lengths[rows]
        positions = start[:, None] + torch.arange(columns)  # (n, Q)
        self._rows, self._width = rows if isinstance(rows, slice) else rows.to(device), int(positions.max()) + 1
        self._positions = positions.to(device)
        self._index = (torch.arange(len(self.lengths))[rows] if isinstance(rows, slice) else rows).to(device)[:, None]
        self.lengths[rows] = start + counts
        mask = torch.arange(self._width, device=device) <= self._positions[:, :, None]
        return self._positions, mask[:, None]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write this pass's keys and values behind each row and return all of them: (n, heads, width, head size)."""
        if layer_idx == len(self._keys):
            shape = (len(self.lengths), key_states.shape[1], max(self._columns, self._width), key_states.shape[3])
            self._keys.append(key_states.new_zeros(shape))
            self._values.append(value_states.new_zeros(shape[:3] + value_states.shape[3:]))
        if self._keys[layer_idx].shape[2] < self._width:
            self._grow(layer_idx)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._index, :, self._positions] = key_states.transpose(1, 2)
        values[self._index, :, self._positions] = value_states.transpose(1, 2)
        return keys[self._rows, :, : self._width], values[self._rows, :, : self._width]

    def _grow(self, layer_idx: int) -> None:
        # In steps of a quarter: a decode loop adds one column at a time, and each growth copies everything.
        columns = max(self._width + 32, self._width * 5 // 4)
        for store in (self._keys, self._values):
            old = store[layer_idx]
            new = old.new_zeros((*old.shape[:2], columns, old.shape[3]))
            new[:, :, : old.shape[2]] = old
            store[layer_idx] = new

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the length of the longest row."""
        return int(self.lengths.max()) if len(self.lengths) else 0
