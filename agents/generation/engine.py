"""``Engine``: continuous batching. It writes the next action of many episodes in one batch, token by token, without waiting for the longest.

An episode is a growing sequence of token ids. The caller adds tokens, the engine reads them (prefill) and appends an action (decode),
and the caller returns with the next observation. Meanwhile the other episodes go on.

- Each token is encoded once: keys and values stay from action to action.
- A common prefix of several sequences is encoded once, and a long one is in memory once (``Prefix``).
- Waiting sequences are read in batches of similar length, at most ``token_budget`` tokens in a pass.
- The cache holds at most ``cache_budget`` tokens, padding included: sequences wait for room, and idle ones are evicted and read
  again later. Only a sequence that is longer than the whole budget exceeds it, alone.

What it leaves out: beams, speculative decoding, a sampler for top-p (training needs the probabilities of the policy itself).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from steptool_env.errors import NotSupported

from ..models.attention import attending
from .admission import Limits, TokenSequence, admit, columns, prefix_tokens
from .cache import Prefix, SlotCache
from .prefixes import PrefixPool

__all__ = ["Engine", "Limits", "TokenModel", "Written"]

ADMIT_SHARE = 0.25
"""Waiting sequences are read once their number reaches this share of those that write: every prefill delays the decoding."""
IDLE_SHARE = 0.3
"""The rows are compacted when more than this share of them would be computed in vain."""


class TokenModel(Protocol):
    """What the engine needs of a model; ``LanguageModel`` has it."""

    @property
    def device(self) -> torch.device: ...
    @property
    def context(self) -> int: ...
    def hidden(self, ids: Tensor, **options: Any) -> Tensor: ...
    def logits(self, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Written:
    """An action, and what the model knew before it."""

    ids: list[int]
    logprobs: list[float]
    state: Tensor
    """(H,) the hidden state of the last token that was read."""
    first: Tensor
    """(H,) the mean hidden state over the first observation."""


class Engine:
    """Reads the tokens of many sequences and samples their actions.

    Args:
        model: Gives hidden states and logits.
        limits: Of actions and memory.
        ends: Whether the tokens written so far are a whole action.
        guides: Mask the log-probabilities before sampling; see ``constrained.Guides``. None: nothing is ruled out.
    """

    def __init__(self, model: TokenModel, limits: Limits, ends: Callable[[list[int]], bool], guides: Any = None) -> None:
        self.model, self.limits, self.ends, self.guides = model, limits, ends, guides
        self.read_tokens = self.written_tokens = 0
        """Tokens encoded and sampled so far; a shared prefix counts once."""
        self.cache = SlotCache()
        self._sequences: dict[Hashable, TokenSequence] = {}
        self._rows: list[TokenSequence | None] = []
        """The sequence in each row of the cache; None: free."""
        self.prefixes = PrefixPool(self._encode)
        self._writing: list[TokenSequence] = []
        self._hidden: Tensor | None = None
        """(writing, H) the hidden states that predict the next tokens."""

    def __contains__(self, key: Hashable) -> bool:
        return key in self._sequences

    def length(self, key: Hashable) -> int:
        """Return how many tokens a sequence has."""
        return len(self._sequences[key].ids)

    def add(self, key: Hashable, ids: Sequence[int], seed: int, guide: Any = None) -> None:
        """Begin a sequence, or replace it: read these tokens, then write an action.

        Args:
            key: Names the sequence.
            ids: Token ids of the first observation.
            seed: Seeds the sampling of the whole sequence.
            guide: Of this action, from ``Guides.start``; None allows all tokens.
        """
        self.drop(key)
        self._sequences[key] = TokenSequence(key, random.Random(seed), list(ids), len(ids), guide=guide)

    def extend(self, key: Hashable, ids: Sequence[int], guide: Any = None) -> None:
        """Continue a sequence whose action was returned: read these tokens, then write the next action."""
        sequence = self._sequences[key]
        sequence.ids += ids
        sequence.status, sequence.written, sequence.logprobs, sequence.guide = "waiting", [], [], guide

    @torch.inference_mode()  # as ``step`` runs under it: its tensors cannot be changed elsewhere
    def drop(self, key: Hashable) -> None:
        """Forget a sequence and free its row."""
        sequence = self._sequences.pop(key, None)
        if sequence is not None:
            if sequence.row >= 0:
                self._free(sequence.row)
            if sequence.status == "writing":
                self._stop(lambda writer: writer is not sequence)

    def keys(self) -> list[Hashable]:
        """Return the keys of all sequences."""
        return list(self._sequences)

    def waits(self) -> bool:
        """Return whether there is anything to read or to write."""
        return any(sequence.status in ("waiting", "writing") for sequence in self._sequences.values())

    def step(self) -> list[tuple[Hashable, Written]]:
        """Read waiting sequences if there are enough of them, then write one token of each; return the actions that are complete."""
        waiting = [sequence for sequence in self._sequences.values() if sequence.status == "waiting"]
        if waiting and len(waiting) >= ADMIT_SHARE * len(self._writing):
            self._admit(waiting)
        if not self._writing:
            return []
        assert self._hidden is not None
        tokens, logprobs = self._sample(self.model.logits(self._hidden).float())
        finished: list[tuple[Hashable, Written]] = []
        for sequence, token, logprob in zip(self._writing, tokens, logprobs, strict=True):
            sequence.written.append(token)
            sequence.logprobs.append(logprob)
            sequence.ids.append(token)
            if len(sequence.written) >= self.limits.max_new_tokens or self.ends(sequence.written):
                sequence.status = "idle"
                assert sequence.state is not None and sequence.first is not None
                finished.append((sequence.key, Written(sequence.written, sequence.logprobs, sequence.state, sequence.first)))
        self.written_tokens += len(tokens)
        if finished:
            self._stop(lambda sequence: sequence.status == "writing")
        if self._writing:
            self._advance()
        return finished

    # ---------------------------------------------------------------- writing
    def _stop(self, keep: Callable[[TokenSequence], bool]) -> None:
        kept = [index for index, sequence in enumerate(self._writing) if keep(sequence)]
        self._writing = [self._writing[index] for index in kept]
        if self._hidden is not None:
            self._hidden = self._hidden[kept]

    def _advance(self) -> None:
        """Encode the last token of each writing sequence."""
        last = max(sequence.row for sequence in self._writing) + 1
        if len(self._writing) < (1 - IDLE_SHARE) * last:
            self._compact(self.cache.columns)
            last = len(self._writing)
        # Idle rows in between append a meaningless token, which is overwritten later.
        ids, counts = torch.zeros(last, 1, dtype=torch.long), torch.zeros(last, dtype=torch.long)
        rows = [sequence.row for sequence in self._writing]
        ids[rows, 0], counts[rows] = torch.tensor([sequence.ids[-1] for sequence in self._writing]), 1
        for sequence in self._writing:
            sequence.read += 1
        self._hidden = self._forward(ids, slice(0, last), counts)[:, 0][rows]

    def _compact(self, columns: int) -> None:
        """Move the rows of writing sequences to the front, then those of the others, and drop free rows."""
        writing = {id(sequence) for sequence in self._writing}
        order = [sequence for sequence in self._rows if sequence is not None]
        order.sort(key=lambda sequence: id(sequence) not in writing)
        self.cache.arrange([sequence.row for sequence in order], columns)
        self._rows = [*order]
        for row, sequence in enumerate(order):
            sequence.row = row

    def _sample(self, logits: Tensor) -> tuple[list[int], list[float]]:
        """Return a token for each row of the logits (n, V), and its log-probability under the policy."""
        temperature = self.limits.temperature
        logprobs = torch.log_softmax(logits / temperature if temperature else logits, dim=-1)
        allowed = logprobs if self.guides is None else self.guides.mask(logprobs, [sequence.guide for sequence in self._writing])
        if temperature == 0:
            tokens = allowed.argmax(dim=-1)
        else:
            # One number per token from the sequence's own generator: the sample does not depend on the rest of the batch.
            # Below 1 in float32, so that a token of probability 0 is never chosen.
            draws = torch.tensor([[min(sequence.draws.random(), 1 - 2.0**-23)] for sequence in self._writing], device=logits.device)
            masses = allowed.exp().cumsum(dim=-1)
            tokens = torch.searchsorted(masses, draws * masses[:, -1:], right=True).squeeze(1)
        chosen = tokens.tolist()
        if self.guides is not None:
            self.guides.accept([sequence.guide for sequence in self._writing], chosen)
        return chosen, logprobs.gather(-1, tokens[:, None]).squeeze(-1).tolist()

    # ---------------------------------------------------------------- reading
    def _admit(self, waiting: list[TokenSequence]) -> None:
        """Read the waiting sequences for which there is room, and let them write."""
        self.prefixes.share([sequence for sequence in waiting if sequence.first is None])
        admitted = admit(waiting, [sequence for sequence in self._rows if sequence is not None], self._writing, self.limits, self._evict)
        if not admitted:
            return
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
        self._read(readers)
        for original, copies in duplicates.values():
            self.cache.copy(original.row, [sequence.row for sequence in copies])
            for sequence in copies:
                sequence.read, sequence.state, sequence.first = original.read, original.state, original.first
        states = torch.stack([sequence.state for sequence in admitted])  # type: ignore[misc]  # none is None
        self._hidden = states if self._hidden is None or not self._writing else torch.cat([self._hidden, states])
        for sequence in admitted:
            sequence.status = "writing"
        self._writing += admitted

    def _free(self, row: int) -> None:
        self._rows[row] = None
        self.cache.clear(row)

    def _evict(self, sequence: TokenSequence) -> None:
        self._free(sequence.row)
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
                total = hidden[index, : sequence.prompt_length - sequence.shared].sum(0)
                sequence.first = (total + sequence.prefix.sums[sequence.shared - 1] if sequence.prefix is not None else total) / sequence.prompt_length
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
