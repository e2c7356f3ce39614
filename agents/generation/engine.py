"""``Engine``: writes the next action of many episodes in one batch, token by token, and never waits for the longest.

An episode is a sequence of token ids that grows: what is to be read is added, the engine reads it and writes an action
behind it, whoever asked takes the action away and comes back with the next observation. Meanwhile the others go on.

- Each token is encoded once: keys and values stay from action to action.
- What several sequences begin with is encoded once, and long beginnings lie in memory once (``Prefix``).
- Sequences that wait are read in batches of similar length, at most ``token_budget`` tokens in a pass.
- The cache holds at most ``cache_budget`` tokens, padding included: sequences wait for room, and those that are idle give
  theirs up and are read again later. Only one that is longer than the whole budget exceeds it, alone.

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

from .admission import Limits, TokenSequence, admit, columns, prefix_tokens
from .cache import Prefix, SlotCache
from .prefixes import PrefixPool

__all__ = ["Engine", "Limits", "Reads", "Written"]

JOIN = 0.25
"""Sequences that wait are read when they are so many, relative to those that write: each reading holds up the writing."""
IDLE = 0.3
"""Rows are moved together when more than this share of them would be computed in vain."""


class Reads(Protocol):
    """What the engine needs of a model; ``LanguageModel`` is one."""

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
    """Reads and writes.

    Args:
        model: What reads.
        limits: Of actions and memory.
        ends: Whether the tokens written so far are a whole action.
        guides: Masks logits before sampling; see ``constrained.Guides``. None: nothing is ruled out.
    """

    def __init__(self, model: Reads, limits: Limits, ends: Callable[[list[int]], bool], guides: Any = None) -> None:
        self.model, self.limits, self.ends, self.guides = model, limits, ends, guides
        self.read_tokens = self.written_tokens = 0
        """Encoded and sampled so far, for those who count: shared beginnings once."""
        self.cache = SlotCache()
        self._sequences: dict[Hashable, TokenSequence] = {}
        self._rows: list[TokenSequence | None] = []
        """Whose each row of the cache is; None: free."""
        self.prefixes = PrefixPool(self._encode)
        self._writing: list[TokenSequence] = []
        self._hidden: Tensor | None = None
        """(writing, H): what predicts the next token of each."""

    def __contains__(self, key: Hashable) -> bool:
        return key in self._sequences

    def length(self, key: Hashable) -> int:
        """Return how many tokens a sequence has."""
        return len(self._sequences[key].ids)

    def add(self, key: Hashable, ids: Sequence[int], seed: int, guide: Any = None) -> None:
        """Begin a sequence, or replace it: read these tokens, then write an action."""
        self.drop(key)
        self._sequences[key] = TokenSequence(key, random.Random(seed), list(ids), len(ids), guide=guide)

    def extend(self, key: Hashable, ids: Sequence[int], guide: Any = None) -> None:
        """Go on with a sequence whose action was handed out: read these tokens, then write the next action."""
        sequence = self._sequences[key]
        sequence.ids += ids
        sequence.status, sequence.written, sequence.logprobs, sequence.guide = "waiting", [], [], guide

    @torch.inference_mode()  # as ``step`` runs under it: its tensors cannot be changed elsewhere
    def drop(self, key: Hashable) -> None:
        """Forget a sequence; its row is free."""
        sequence = self._sequences.pop(key, None)
        if sequence is not None:
            if sequence.row >= 0:
                self._free(sequence.row)
            if sequence.status == "writing":
                self._stop(lambda one: one is not sequence)

    def keys(self) -> list[Hashable]:
        """Return the keys of all sequences."""
        return list(self._sequences)

    def waits(self) -> bool:
        """Return whether there is anything to read or to write."""
        return any(one.status in ("waiting", "writing") for one in self._sequences.values())

    def step(self) -> list[tuple[Hashable, Written]]:
        """Read what waits, where it is time to, and write one token of each sequence that is read; return whole actions."""
        waiting = [one for one in self._sequences.values() if one.status == "waiting"]
        if waiting and len(waiting) >= JOIN * len(self._writing):
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
            self._stop(lambda one: one.status == "writing")
        if self._writing:
            self._advance()
        return finished

    # ---------------------------------------------------------------- writing
    def _stop(self, keep: Callable[[TokenSequence], bool]) -> None:
        places = [place for place, one in enumerate(self._writing) if keep(one)]
        self._writing = [self._writing[place] for place in places]
        if self._hidden is not None:
            self._hidden = self._hidden[places]

    def _advance(self) -> None:
        """Encode the last token of each sequence that writes."""
        last = max(one.row for one in self._writing) + 1
        if len(self._writing) < (1 - IDLE) * last:
            self._compact(self.cache.columns)
            last = len(self._writing)
        # An idle row writes a token that means nothing behind its last one, where it is overwritten later.
        ids, counts = torch.zeros(last, 1, dtype=torch.long), torch.zeros(last, dtype=torch.long)
        rows = [one.row for one in self._writing]
        ids[rows, 0], counts[rows] = torch.tensor([one.ids[-1] for one in self._writing]), 1
        for one in self._writing:
            one.read += 1
        self._hidden = self._forward(ids, slice(0, last), counts)[:, 0][rows]

    def _compact(self, columns: int) -> None:
        """Put the rows of the sequences that write first, then the others', and give up those that are free."""
        writing = {id(one) for one in self._writing}
        order = [one for one in self._rows if one is not None]
        order.sort(key=lambda one: id(one) not in writing)
        self.cache.arrange([one.row for one in order], columns)
        self._rows = [*order]
        for row, one in enumerate(order):
            one.row = row

    def _sample(self, logits: Tensor) -> tuple[list[int], list[float]]:
        """Return a token for each row of the logits (n, V), and its log-probability under the policy."""
        temperature = self.limits.temperature
        logprobs = torch.log_softmax(logits / temperature if temperature else logits, dim=-1)
        allowed = logprobs if self.guides is None else self.guides.mask(logprobs, [one.guide for one in self._writing])
        if temperature == 0:
            tokens = allowed.argmax(dim=-1)
        else:
            # One number per token from the sequence's own generator: what is sampled does not depend on who else writes.
            # Below 1 in float32, so that a token without probability is never chosen.
            draws = torch.tensor([[min(one.draws.random(), 1 - 2.0**-23)] for one in self._writing], device=logits.device)
            masses = allowed.exp().cumsum(dim=-1)
            tokens = torch.searchsorted(masses, draws * masses[:, -1:], right=True).squeeze(1)
        chosen = tokens.tolist()
        if self.guides is not None:
            self.guides.accept([one.guide for one in self._writing], chosen)
        return chosen, logprobs.gather(-1, tokens[:, None]).squeeze(-1).tolist()

    # ---------------------------------------------------------------- reading
    def _admit(self, waiting: list[TokenSequence]) -> None:
        """Read those of the waiting sequences for which there is room, and let them write."""
        self.prefixes.share([one for one in waiting if one.first is None])
        admitted = admit(waiting, [one for one in self._rows if one is not None], self._writing, self.limits, self._evict)
        if not admitted:
            return
        self._place(admitted)
        originals: dict[tuple[int, ...], TokenSequence] = {}
        twins: dict[int, tuple[TokenSequence, list[TokenSequence]]] = {}
        readers = []
        for one in admitted:
            original = originals.setdefault((id(one.prefix), *one.ids), one) if not one.read else one
            if original is one:
                readers.append(one)
            else:
                twins.setdefault(id(original), (original, []))[1].append(one)
        self._read(readers)
        for original, copies in twins.values():
            self.cache.copy(original.row, [one.row for one in copies])
            for one in copies:
                one.read, one.state, one.first = original.read, original.state, original.first
        states = torch.stack([one.state for one in admitted])  # type: ignore[misc]  # none is None
        self._hidden = states if self._hidden is None or not self._writing else torch.cat([self._hidden, states])
        for one in admitted:
            one.status = "writing"
        self._writing += admitted

    def _free(self, row: int) -> None:
        self._rows[row] = None
        self.cache.clear(row)

    def _evict(self, one: TokenSequence) -> None:
        self._free(one.row)
        one.row, one.read = -1, 0

    def _place(self, admitted: Sequence[TokenSequence]) -> None:
        """Give those of these sequences that have none a row: free ones first."""
        new = [one for one in admitted if one.row < 0]
        resident = [one for one in self._rows if one is not None] + new
        longest = columns(resident, admitted, self.limits)
        rows = max(len(self._rows), len(resident))
        if rows * max(longest, self.cache.columns) + prefix_tokens(resident) > self.limits.cache_budget:
            self._compact(longest)
        free = [row for row, one in enumerate(self._rows) if one is None]
        more = len(new) - len(free)
        if more > 0:
            free += range(len(self._rows), len(self._rows) + more)
            self.cache.arrange([*range(len(self._rows)), *[-1] * more], longest)
            self._rows += [None] * more
        else:
            self.cache.reserved = longest
        for one, row in zip(new, free, strict=False):
            self._rows[row], one.row = one, row
            self.cache.prefixes[row] = (one.prefix, one.shared)
        # A prefix that nobody uses now is kept for the next episodes while there is room.
        self.prefixes.trim(list(self._sequences.values()), self.limits.cache_budget - self.cache.tokens)

    def _read(self, readers: list[TokenSequence]) -> None:
        """Encode what each of these has not read yet: in passes of similar length, within the token budget."""

        def kind(one: TokenSequence) -> tuple[bool, bool]:
            return one.read == 0, one.prefix is None  # whole rows are read without looking at the cache

        def news(one: TokenSequence) -> int:
            return len(one.ids) - max(one.read, one.shared)

        readers = sorted(readers, key=lambda one: (*kind(one), news(one), one.row))
        begin = 0
        while begin < len(readers):
            end = begin + 1
            while end < len(readers) and kind(readers[end]) == kind(readers[begin]) and (end + 1 - begin) * news(readers[end]) <= self.limits.token_budget:
                end += 1
            self._read_together(readers[begin:end], [one.ids[max(one.read, one.shared) :] for one in readers[begin:end]])
            begin = end

    def _read_together(self, part: list[TokenSequence], feeds: list[list[int]]) -> None:
        ids = torch.zeros(len(part), max(map(len, feeds)), dtype=torch.long)
        for place, feed in enumerate(feeds):
            ids[place, : len(feed)] = torch.tensor(feed, dtype=torch.long)
        counts = torch.tensor([len(feed) for feed in feeds])
        rows = [one.row for one in part]
        hidden = self._forward(ids, slice(0, len(rows)) if rows == list(range(len(self._rows))) else torch.tensor(rows), counts)
        states = hidden[torch.arange(len(part)), counts - 1]
        for place, one in enumerate(part):
            if one.first is None:
                own = hidden[place, : one.prompt_length - one.shared].sum(0)
                one.first = (own + one.prefix.sums[one.shared - 1] if one.prefix is not None else own) / one.prompt_length
            one.state, one.read = states[place], len(one.ids)
        self.read_tokens += int(counts.sum())

    def _forward(self, ids: Tensor, rows: slice | Tensor, counts: Tensor, cache: SlotCache | None = None) -> Tensor:
        cache, device = self.cache if cache is None else cache, self.model.device
        positions = cache.place(rows, counts, ids.shape[1], device)
        positions = positions.clamp(max=self.model.context - 1)  # padding may lie beyond: a learnt table has no such position
        hidden = self.model.hidden(ids.to(device), position_ids=positions, past_key_values=cache, slots=cache, use_cache=True)
        if not cache.calls:  # it would have looked at the wrong keys
            raise NotSupported("this model does not hand the cache on to its attention, so it cannot play several episodes at once")
        return hidden

    def _encode(self, ids: list[int]) -> Prefix:
        cache = SlotCache()
        cache.arrange([-1])
        hidden = self._forward(torch.tensor([ids]), slice(0, 1), torch.tensor([len(ids)]), cache)
        self.read_tokens += len(ids)
        return cache.take(ids, hidden[0].cumsum(0))
