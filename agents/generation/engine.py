"""``Engine``: continuous batching. It writes the next action of many episodes in one batch, token by token, without waiting for the longest.

An episode is a growing sequence of token ids. The caller adds tokens, the engine reads them (prefill) and appends an action (decode),
and the caller returns with the next observation. Meanwhile the other episodes go on.

- Each token is encoded once: keys and values stay from action to action.
- A common prefix of several sequences is encoded once, and what many of them share is in memory once (``Prefix``).
- Waiting sequences are read in batches of similar length, at most ``token_budget`` tokens in a pass.
- The cache holds at most ``cache_budget`` tokens, padding included: sequences wait for room, and idle ones are evicted and read
  again later. Only a sequence that is longer than the whole budget exceeds it, alone.

What it leaves out: beams, speculative decoding, a sampler for top-p (training needs the probabilities of the policy itself).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from steptool_env.errors import NotSupported

from ..models.attention import attending
from .admission import Limits, TokenSequence, admit, columns, prefix_tokens
from .cache import Prefix, SlotCache
from .prefixes import PrefixPool
from .reasoning import ReasoningBudget
from .writing import TokenModel, Writing, Written

__all__ = ["ATTENDED", "Engine", "Limits", "TokenModel", "Written"]

IDLE_SHARE = 0.3
"""The rows are compacted when more than this share of them would be computed in vain."""
ATTENDED = {"cpu": 2**20, "cuda": 2**26}
"""Rows that begin alike attend to a prefix in one place if that spares them so many bytes of a layer, else each has a copy of it. Products of their
own for each prefix cost more than what they spare, as long as that is little. Measured on a CPU; a GPU reads memory a hundred times as fast, and does
not start products faster, so what it says of one is an estimate."""


class Engine(Writing):
    """Writes with one cache that all sequences share; see ``Writing`` for its arguments."""

    def __init__(
        self, model: TokenModel, limits: Limits, ends: Callable[[list[int]], bool], guides: Any = None, budget: ReasoningBudget | None = None
    ) -> None:
        super().__init__(model, limits, ends, guides, budget)
        self.cache = SlotCache()
        self._rows: list[TokenSequence | None] = []
        """The sequence in each row of the cache; None: free."""
        self.prefixes = PrefixPool(self._encode)

    @property
    def cache_tokens(self) -> int:
        """How many tokens the cache has memory for, padding included."""
        return self.cache.tokens

    # ---------------------------------------------------------------- writing
    def _advance(self) -> Tensor:
        last = max(sequence.row for sequence in self._writing) + 1
        if len(self._writing) < (1 - IDLE_SHARE) * last:
            self._compact(self.cache.columns)
            last = len(self._writing)
        # Idle rows in between append a meaningless token, which is overwritten later.
        ids, counts = torch.zeros(last, 1, dtype=torch.long), torch.zeros(last, dtype=torch.long)
        rows = [sequence.row for sequence in self._writing]
        ids[rows, 0], counts[rows] = torch.tensor([sequence.ids[-1] for sequence in self._writing]), 1
        return self._forward(ids, slice(0, last), counts)[:, 0][rows]

    def _compact(self, columns: int) -> None:
        """Move the rows of writing sequences to the front, then those of the others, and drop free rows."""
        writing = {id(sequence) for sequence in self._writing}
        order = [sequence for sequence in self._rows if sequence is not None]
        order.sort(key=lambda sequence: id(sequence) not in writing)
        self.cache.arrange([sequence.row for sequence in order], columns)
        self._rows = [*order]
        for row, sequence in enumerate(order):
            sequence.row = row

    # ---------------------------------------------------------------- reading
    def _admit(self, waiting: list[TokenSequence]) -> list[TokenSequence]:
        self._share([sequence for sequence in waiting if sequence.first is None])
        admitted = admit(waiting, [sequence for sequence in self._rows if sequence is not None], self._writing, self.limits, self._evict)
        if not admitted:
            return []
        self._place(admitted)
        originals: dict[tuple[int, ...], TokenSequence] = {}
        duplicates: dict[int, tuple[TokenSequence, list[TokenSequence]]] = {}
        readers = []
        for sequence in admitted:
            original = originals.setdefault((id(sequence.prefix), *sequence.ids), sequence) if not sequence.read else sequence
            if original is sequence:
                readers.append(sequence)
            else:
                duplicates.setdefault(id(original), (original, []))[1].append(sequence)
        for sequence in readers:
            if sequence.source is not None and not sequence.read:
                self.cache.fill(sequence.row, sequence.source, sequence.copied)
                sequence.read = sequence.copied
        self._read(readers)
        for original, copies in duplicates.values():
            self.cache.copy(original.row, [sequence.row for sequence in copies])
            for sequence in copies:
                sequence.read, sequence.state, sequence.first, sequence.source = original.read, original.state, original.first, None
        return admitted

    def _share(self, new: Sequence[TokenSequence]) -> None:
        for sequence in new:
            sequence.source, sequence.copied = None, 0
        self.prefixes.share(new)
        everyone = list(self._sequences.values())
        longest = max(len(sequence.ids) for sequence in everyone) + self.limits.max_new_tokens
        if 2 * len(everyone) * longest > self.limits.cache_budget:
            return  # room is scarce: what is in one place takes less
        rows = Counter(id(sequence.prefix) for sequence in everyone)
        least = ATTENDED["cpu" if self.model.device.type == "cpu" else "cuda"]
        for sequence in new:
            prefix, length = sequence.prefix, sequence.shared
            if prefix is not None and rows[id(prefix)] * length * prefix.token_bytes < least:
                sequence.source, sequence.copied, sequence.prefix, sequence.shared = prefix, length, None, 0

    def _release(self, sequence: TokenSequence) -> None:
        self._rows[sequence.row] = None
        self.cache.clear(sequence.row)

    def _evict(self, sequence: TokenSequence) -> None:
        self._release(sequence)
        sequence.row, sequence.read = -1, 0

    def _place(self, admitted: Sequence[TokenSequence]) -> None:
        """Give rows to the admitted sequences that have none: free rows first."""
        new = [sequence for sequence in admitted if sequence.row < 0]
        resident = [sequence for sequence in self._rows if sequence is not None] + new
        longest = columns(resident, admitted, self.limits)
        rows = max(len(self._rows), len(resident))
        if rows * max(longest, self.cache.columns) + prefix_tokens(resident) > self.limits.cache_budget:
            self._compact(longest)
        free = [row for row, sequence in enumerate(self._rows) if sequence is None]
        missing = len(new) - len(free)
        if missing > 0:
            free += range(len(self._rows), len(self._rows) + missing)
            self.cache.arrange([*range(len(self._rows)), *[-1] * missing], longest)
            self._rows += [None] * missing
        else:
            self.cache.reserved = longest
        for sequence, row in zip(new, free, strict=False):
            self._rows[row], sequence.row = sequence, row
            self.cache.prefixes[row] = (sequence.prefix, sequence.shared)
        # An unused prefix is kept for the next episodes while there is room.
        self.prefixes.trim(list(self._sequences.values()), self.limits.cache_budget - self.cache.tokens)

    def _read(self, readers: list[TokenSequence]) -> None:
        """Encode the unread tokens of these sequences: in passes of similar length, within the token budget."""

        def pass_kind(sequence: TokenSequence) -> tuple[bool, bool]:
            return sequence.read == 0, sequence.prefix is None  # whole rows need no attention to the cache

        def unread(sequence: TokenSequence) -> int:
            return len(sequence.ids) - max(sequence.read, sequence.shared)

        readers = sorted(readers, key=lambda sequence: (*pass_kind(sequence), unread(sequence), sequence.row))
        begin = 0
        while begin < len(readers):
            end = begin + 1
            while (
                end < len(readers)
                and pass_kind(readers[end]) == pass_kind(readers[begin])
                and (end + 1 - begin) * unread(readers[end]) <= self.limits.token_budget
            ):
                end += 1
            self._read_together(readers[begin:end], [sequence.ids[max(sequence.read, sequence.shared) :] for sequence in readers[begin:end]])
            begin = end

    def _read_together(self, batch: list[TokenSequence], unread_ids: list[list[int]]) -> None:
        ids = torch.zeros(len(batch), max(map(len, unread_ids)), dtype=torch.long)
        for index, tokens in enumerate(unread_ids):
            ids[index, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        counts = torch.tensor([len(tokens) for tokens in unread_ids])
        rows = [sequence.row for sequence in batch]
        hidden = self._forward(ids, slice(0, len(rows)) if rows == list(range(len(self._rows))) else torch.tensor(rows), counts)
        states = hidden[torch.arange(len(batch)), counts - 1]
        for index, sequence in enumerate(batch):
            if sequence.first is None:
                prefix, before = sequence.prefix or sequence.source, sequence.shared or sequence.copied
                total = hidden[index, : sequence.prompt_length - before].sum(0)
                sequence.first = (total + prefix.sums[before - 1] if prefix is not None else total) / sequence.prompt_length
                sequence.source = None
            sequence.state, sequence.read = states[index], len(sequence.ids)
        self.read_tokens += int(counts.sum())

    def _forward(self, ids: Tensor, rows: slice | Tensor, counts: Tensor, cache: SlotCache | None = None) -> Tensor:
        cache, device = self.cache if cache is None else cache, self.model.device
        positions = cache.place(rows, counts, ids.shape[1], device)
        positions = positions.clamp(max=self.model.context - 1)  # padding may lie beyond the last position of a learned table
        with attending(cache):
            hidden = self.model.hidden(ids.to(device), position_ids=positions, past_key_values=cache, use_cache=True)
        if not cache.calls:  # it would have attended to the wrong keys
            raise NotSupported("this model does not hand the cache on to its attention, so it cannot play several episodes at once")
        return hidden

    def _encode(self, ids: list[int]) -> Prefix:
        cache = SlotCache()
        cache.arrange([-1])
        hidden = self._forward(torch.tensor([ids]), slice(0, 1), torch.tensor([len(ids)]), cache)
        self.read_tokens += len(ids)
        return cache.take(ids, hidden[0].cumsum(0))
