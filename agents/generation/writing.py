"""``Writing``: what the engines have in common: the sequences, the sampling, and the end of an action."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .admission import Limits, TokenSequence
from .reasoning import ReasoningBudget

__all__ = ["TokenModel", "Writing", "Written"]

ADMIT_SHARE = 0.25
"""Waiting sequences are read once their number reaches this share of those that write: every prefill delays the decoding."""


class TokenModel(Protocol):
    """What an engine needs of a model; ``LanguageModel`` has it."""

    @property
    def device(self) -> torch.device: ...
    @property
    def context(self) -> int: ...
    def hidden(self, ids: Tensor, kept: Any = None, **options: Any) -> Tensor: ...
    def logits(self, hidden: Tensor) -> Tensor: ...
    def nothing_kept(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Written:
    """An action, and what the model knew before it."""

    ids: list[int]
    logprobs: list[float]
    state: Tensor
    """(H,) the hidden state of the last token that was read."""
    first: Tensor
    """(H,) the mean hidden state over the first observation."""
    forced: tuple[int, int] = (0, 0)
    """Which of the ids end reasoning that was over its budget: from, to before. Their log-probabilities are 0: they were certain."""


class Writing(ABC):
    """Reads the tokens of many sequences and samples their actions.

    Args:
        model: Gives hidden states and logits.
        limits: Of actions and memory.
        ends: Whether the tokens written so far are a whole action.
        guides: Mask the log-probabilities before sampling; see ``constrained.Guides``. None: nothing is ruled out.
        budget: Of reasoning; None: it may take the whole action.
    """

    def __init__(
        self, model: TokenModel, limits: Limits, ends: Callable[[list[int]], bool], guides: Any = None, budget: ReasoningBudget | None = None
    ) -> None:
        self.model, self.limits, self.ends, self.guides, self.budget = model, limits, ends, guides, budget
        self.read_tokens = self.written_tokens = 0
        """Tokens encoded and sampled so far; a shared prefix counts once."""
        self._sequences: dict[Hashable, TokenSequence] = {}
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
        sequence.status, sequence.written, sequence.logprobs, sequence.guide, sequence.forced = "waiting", [], [], guide, (0, 0)

    @torch.inference_mode()  # as ``step`` runs under it: its tensors cannot be changed elsewhere
    def drop(self, key: Hashable) -> None:
        """Forget a sequence and free its memory."""
        sequence = self._sequences.pop(key, None)
        if sequence is not None:
            if sequence.row >= 0:
                self._release(sequence)
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
            admitted = self._admit(waiting)
            if admitted:
                states = torch.stack([sequence.state for sequence in admitted])  # type: ignore[misc]  # none is None
                self._hidden = states if self._hidden is None or not self._writing else torch.cat([self._hidden, states])
                for sequence in admitted:
                    sequence.status = "writing"
                self._writing += admitted
        if not self._writing:
            return []
        assert self._hidden is not None
        tokens, logprobs = self._sample(self.model.logits(self._hidden).float())
        finished: list[tuple[Hashable, Written]] = []
        for sequence, token, logprob in zip(self._writing, tokens, logprobs, strict=True):
            if sequence.forcing:
                token, logprob, whole = sequence.forcing.pop(0), 0.0, False
                sequence.written.append(token)
                sequence.forced = (sequence.forced[0], len(sequence.written))
            else:
                sequence.written.append(token)
                whole = self.ends(sequence.written)
                if self.budget is not None and not whole:
                    sequence.forcing = self.budget(sequence.written)
                    if sequence.forcing:
                        sequence.forced = (len(sequence.written), len(sequence.written))
            sequence.logprobs.append(logprob)
            sequence.ids.append(token)
            if whole or len(sequence.written) >= self.limits.max_new_tokens:
                sequence.status, sequence.forcing = "idle", []
                assert sequence.state is not None and sequence.first is not None
                finished.append((sequence.key, Written(sequence.written, sequence.logprobs, sequence.state, sequence.first, sequence.forced)))
        self.written_tokens += len(tokens)
        if finished:
            self._stop(lambda sequence: sequence.status == "writing")
        if self._writing:
            self._hidden = self._advance()
            for sequence in self._writing:
                sequence.read += 1
        return finished

    # ---------------------------------------------------------------- of each engine
    @property
    @abstractmethod
    def cache_tokens(self) -> int:
        """How many tokens the memory holds, padding included."""

    @abstractmethod
    def _admit(self, waiting: list[TokenSequence]) -> list[TokenSequence]:
        """Read the waiting sequences for which there is room, and return them."""

    @abstractmethod
    def _advance(self) -> Tensor:
        """Encode the last token of each writing sequence; return the hidden states (writing, H)."""

    @abstractmethod
    def _release(self, sequence: TokenSequence) -> None:
        """Free the memory of a sequence."""

    # ---------------------------------------------------------------- writing
    def _stop(self, keep: Callable[[TokenSequence], bool]) -> None:
        kept = [index for index, sequence in enumerate(self._writing) if keep(sequence)]
        self._writing = [self._writing[index] for index in kept]
        if self._hidden is not None:
            self._hidden = self._hidden[kept]

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
