"""From trajectories to tensors: each trajectory is one sequence, however many steps it has.

A trajectory's sequence is the concatenation of its steps' context and action tokens. The losses use only the hidden states that
predict an action token, and the one at the last context token before each action, from which its state value is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..trajectory import Generation, Trajectory

__all__ = ["Batch", "action_tokens", "collate", "length", "micro_batches"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Trajectories as tensors: B sequences of up to L tokens, with N action tokens and S steps in all."""

    ids: Tensor
    """(B, L) token ids, padded on the right with 0; causal attention never sees the padding."""
    token_at: Tensor
    """(N, 2) row and column of the hidden state that predicts each action token."""
    targets: Tensor
    """(N,) the action tokens."""
    old_logprobs: Tensor
    """(N,) their log-probabilities when they were sampled."""
    token_step: Tensor
    """(N,) the step, 0 to S - 1, that each action token belongs to."""
    state_at: Tensor
    """(S, 2) row and column of the hidden state of each step's state: its last context token."""
    action_lengths: Tensor
    """(S,) action tokens of each step."""
    prompt_lengths: Tensor
    """(B,) tokens of the first observation of each trajectory."""
    weights: Tensor
    """(S,) 0 for steps that must not be learned from (infrastructure faults, no tokens), else 1."""
    steps: tuple[int, ...]
    """Steps of each trajectory."""
    actions: tuple[int, ...]
    """Action tokens of each trajectory."""
    tokens: int
    """Tokens of all sequences, without padding."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch with all its tensors on a device."""
        moved: dict[str, Any] = {name: value.to(device) for name in self.__slots__ if isinstance(value := getattr(self, name), Tensor)}
        return replace(self, **moved)


def collate(trajectories: Sequence[Trajectory]) -> Batch:
    """Pad trajectories into one batch, on the CPU; each trajectory must have at least one token."""
    sequences, token_at, targets, old_logprobs, token_step, state_at, weights = [], [], [], [], [], [], []
    counts: list[int] = []
    for row, trajectory in enumerate(trajectories):
        pieces: list[tuple[int, ...]] = []
        total = 0
        for step in trajectory.steps:
            generation = step.generation
            total += len(generation.prompt_ids)
            count = generation.sampled
            state_at.append((row, max(total - 1, 0)))
            weights.append(0.0 if step.masked or not count else 1.0)
            columns = _sampled(generation, np.arange(total - 1, total - 1 + len(generation.token_ids)))
            token_at.append(np.stack([np.full(count, row), columns], axis=1))
            targets.append(_sampled(generation, np.asarray(generation.token_ids, dtype=np.int64)))
            old_logprobs.append(_sampled(generation, np.asarray(generation.logprobs, dtype=np.float32)))
            token_step.append(np.full(count, len(counts)))
            counts.append(count)
            total += len(generation.token_ids)
            pieces += [generation.prompt_ids, generation.token_ids]
        sequences.append(np.concatenate([np.asarray(piece, dtype=np.int64) for piece in pieces]))
    ids = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    return Batch(
        ids=torch.from_numpy(ids),
        token_at=torch.from_numpy(np.concatenate(token_at).astype(np.int64)),
        targets=torch.from_numpy(np.concatenate(targets)),
        old_logprobs=torch.from_numpy(np.concatenate(old_logprobs)),
        token_step=torch.from_numpy(np.concatenate(token_step).astype(np.int64)),
        state_at=torch.tensor(state_at),
        action_lengths=torch.tensor(counts),
        prompt_lengths=torch.tensor([len(trajectory.steps[0].generation.prompt_ids) for trajectory in trajectories]),
        weights=torch.tensor(weights),
        steps=tuple(len(trajectory.steps) for trajectory in trajectories),
        actions=tuple(map(action_tokens, trajectories)),
        tokens=sum(map(len, sequences)),
    )


def length(trajectory: Trajectory) -> int:
    """Return the number of tokens of a trajectory, context and actions."""
    return sum(len(step.generation.prompt_ids) + len(step.generation.token_ids) for step in trajectory.steps)


def action_tokens(trajectory: Trajectory) -> int:
    """Return the number of action tokens of a trajectory: those that were sampled."""
    return sum(step.generation.sampled for step in trajectory.steps)


def _sampled(generation: Generation, of_tokens: NDArray[Any]) -> NDArray[Any]:
    """Return what belongs to the sampled ones of an action's tokens (L, …)."""
    return np.delete(of_tokens, slice(*generation.forced), axis=0) if generation.forced[1] else of_tokens


def micro_batches(sizes: Sequence[tuple[int, int]], token_budget: int) -> Iterator[list[int]]:
    """Yield groups of indices of units of similar length, each group with at most ``token_budget`` padded tokens.

    Args:
        sizes: For each unit, the number of its sequences and the length of the longest one, in tokens.
        token_budget: A larger unit forms a group of its own.
    """
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index][1])
    group: list[int] = []
    rows = 0
    for index in order:
        if group and (rows + sizes[index][0]) * sizes[group[0]][1] > token_budget:
            yield group
            group, rows = [], 0
        group.append(index)
        rows += sizes[index][0]
    if group:
        yield group
