"""``General``: the engine for models whose episodes cannot share a cache: linear attention, state spaces, convolutions, attention of their own.

Every sequence has a cache of the model's own kind. Sequences that write are put together where their caches allow it, and write in
one pass per token; a new observation is read sequence by sequence, without padding, which no recurrence sees past.

- Each token is encoded once: what the model keeps stays from action to action.
- Equal sequences, and a common beginning, are encoded once and copied.
- The cache holds at most ``cache_budget`` tokens, as in ``Engine``.

The results are those of ``Engine``, up to rounding; it is slower, by the passes that it does not share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.language_model import Kept
from .admission import Limits, TokenSequence, admit
from .cache import Prefix
from .kept import apart, duplicate, has_keys, together
from .prefixes import PrefixPool
from .reasoning import ReasoningBudget
from .writing import TokenModel, Writing

__all__ = ["General"]


@dataclass(slots=True, eq=False)
class _Batch:
    """Sequences whose caches are together."""

    members: list[TokenSequence]
    lengths: list[int]
    kept: Kept


class General(Writing):
    """Writes with a cache per sequence; see ``Writing`` for its other arguments.

    Args:
        batched: Whether caches can be put together.
        chunked: Whether the model continues from a cache by several tokens at once; if not, observations are read token by token.
    """

    def __init__(
        self,
        model: TokenModel,
        limits: Limits,
        ends: Callable[[list[int]], bool],
        guides: Any = None,
        budget: ReasoningBudget | None = None,
        *,
        batched: bool = True,
        chunked: bool = True,
    ) -> None:
        super().__init__(model, limits, ends, guides, budget)
        self.batched, self.chunked = batched, chunked
        self.prefixes = PrefixPool(self._encode)
        self._batch: _Batch | None = None

    @property
    def cache_tokens(self) -> int:
        """How many tokens the caches hold."""
        return sum(sequence.read for sequence in self._sequences.values()) + sum(len(prefix.ids) for prefix in self.prefixes.prefixes)

    # ---------------------------------------------------------------- writing
    def _advance(self) -> Tensor:
        if not self.batched or len(self._writing) == 1:
            self._separate()
            return torch.cat([self._forward(sequence.ids[-1:], sequence.read, sequence.kept)[-1:] for sequence in self._writing])
        if self._batch is None or [id(one) for one in self._batch.members] != [id(one) for one in self._writing]:
            self._separate()
            lengths = [sequence.read for sequence in self._writing]
            self._batch = _Batch(list(self._writing), lengths, together([sequence.kept for sequence in self._writing], lengths))
            for sequence in self._writing:
                sequence.kept = None
        batch, device = self._batch, self.model.device
        options: dict[str, Any] = {"position_ids": torch.tensor(batch.lengths, device=device)[:, None]}
        longest = max(batch.lengths)
        if min(batch.lengths) < longest and has_keys(batch.kept):
            padding = torch.tensor([longest - length for length in batch.lengths], device=device)
            options["attention_mask"] = (torch.arange(longest + 1, device=device) >= padding[:, None]).long()
        ids = torch.tensor([sequence.ids[-1:] for sequence in batch.members], device=device)
        batch.lengths = [length + 1 for length in batch.lengths]
        return self.model.hidden(ids, batch.kept, **options)[:, 0]

    def _separate(self) -> None:
        """Give the sequences of the batch caches of their own again."""
        if self._batch is not None:
            for sequence, kept in zip(self._batch.members, apart(self._batch.kept, self._batch.lengths), strict=True):
                sequence.kept = kept if sequence.row >= 0 else None  # it was dropped meanwhile
            self._batch = None

    # ---------------------------------------------------------------- reading
    def _admit(self, waiting: list[TokenSequence]) -> list[TokenSequence]:
        self._separate()
        self._share([sequence for sequence in waiting if sequence.first is None])
        resident = [sequence for sequence in self._sequences.values() if sequence.row >= 0]
        admitted = admit(waiting, resident, self._writing, self.limits, self._release)
        originals: dict[tuple[int, ...], TokenSequence] = {}
        for sequence in admitted:
            sequence.row = 0  # it has a cache; which row does not matter here
            original = originals.setdefault(tuple(sequence.ids), sequence) if not sequence.read else sequence
            if original is sequence:
                self._read(sequence)
            else:
                sequence.kept, sequence.read = duplicate(original.kept), original.read
                sequence.state, sequence.first = original.state, original.first
        self.prefixes.trim(list(self._sequences.values()), self.limits.cache_budget - self.cache_tokens)
        return admitted

    def _share(self, new: Sequence[TokenSequence]) -> None:
        self.prefixes.share(new)
        for sequence in new:
            if sequence.prefix is not None and sequence.shared < len(sequence.prefix.ids):
                sequence.prefix, sequence.shared = None, 0  # of a recurrence there is no shorter beginning

    def _read(self, sequence: TokenSequence) -> None:
        total = None
        if sequence.kept is None:
            sequence.kept = self.model.nothing_kept()
            if sequence.prefix is not None:
                sequence.kept, sequence.read = duplicate(sequence.prefix.kept), sequence.shared
                total = sequence.prefix.sums
                sequence.prefix, sequence.shared = None, 0
        hidden = self._read_tokens(sequence.ids[sequence.read :], sequence.read, sequence.kept)
        if sequence.first is None:
            some = hidden[: sequence.prompt_length - sequence.read].sum(0)
            sequence.first = (some if total is None else total + some) / sequence.prompt_length
        sequence.state, sequence.read = hidden[-1], len(sequence.ids)

    def _read_tokens(self, ids: list[int], start: int, kept: Kept) -> Tensor:
        """Return the hidden states (L, H) of L more tokens of a sequence of ``start`` tokens."""
        hidden, done = [], 0
        while done < len(ids):
            one = 1 if start + done else len(ids)  # nothing goes on by several tokens, but everything begins so
            count = self.limits.token_budget if self.chunked else one
            hidden.append(self._forward(ids[done : done + count], start + done, kept))
            done += count
        self.read_tokens += len(ids)
        return hidden[0] if len(hidden) == 1 else torch.cat(hidden)

    def _forward(self, ids: list[int], start: int, kept: Kept) -> Tensor:
        device = self.model.device
        positions = torch.arange(start, start + len(ids), device=device)[None]
        return self.model.hidden(torch.tensor([ids], device=device), kept, position_ids=positions)[0]

    def _encode(self, ids: list[int]) -> Prefix:
        kept = self.model.nothing_kept()
        return Prefix(ids, [], [], self._read_tokens(ids, 0, kept).sum(0), kept)

    def _release(self, sequence: TokenSequence) -> None:
        sequence.kept, sequence.row, sequence.read = None, -1, 0
