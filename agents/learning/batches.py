"""From trajectories to tensors: each trajectory is encoded once, however many steps it has.

A trajectory's sequence is the concatenation of its steps' context and action tokens. Of the hidden states only those are
used that predict an action token, and those of the last context token before each action, which carry its state value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..trajectory import Trajectory

__all__ = ["Batch", "collate", "micro_batches"]


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
    ref_logprobs: Tensor
    """(N,) their log-probabilities under the reference policy; 0 where not given."""
    token_step: Tensor
    """(N,) the step, 0 to S - 1, that each action token belongs to."""
    state_at: Tensor
    """(S, 2) row and column of the hidden state of each step's state: its last context token."""
    prompt_lengths: Tensor
    """(B,) tokens of the first observation of each trajectory."""
    advantages: Tensor
    """(S,)"""
    returns: Tensor
    """(S,) targets of the state values."""
    weights: Tensor
    """(S,) 0 for steps that must not be learnt from (infrastructure faults, no tokens), else 1."""

    tokens: int = 0
    """Tokens of all sequences, without padding."""

    def to(self, device: torch.device) -> Batch:
        moved: dict[str, Any] = {name: value.to(device) for name in self.__slots__ if isinstance(value := getattr(self, name), Tensor)}
        return replace(self, **moved)


def collate(
    trajectories: Sequence[Trajectory],
    advantages: Sequence[ArrayLike] | None = None,
    returns: Sequence[ArrayLike] | None = None,
    ref_logprobs: Sequence[ArrayLike] | None = None,
) -> Batch:
    """Pad trajectories into one batch.

    Args:
        trajectories: B of them, each with at least one token.
        advantages: Per trajectory, per step; 1 where not given (supervised learning).
        returns: Per trajectory, per step; 0 where not given.
        ref_logprobs: Per trajectory, per action token; 0 where not given.
    """
    sequences, token_at, targets, old, token_step, state_at, weights = [], [], [], [], [], [], []
    steps_so_far = 0
    for row, trajectory in enumerate(trajectories):
        pieces: list[tuple[int, ...]] = []
        length = 0
        for step in trajectory.steps:
            generation = step.generation
            length += len(generation.prompt_ids)
            count = len(generation.token_ids)
            state_at.append((row, max(length - 1, 0)))
            weights.append(0.0 if step.masked or not count else 1.0)
            columns = np.arange(length - 1, length - 1 + count)
            token_at.append(np.stack([np.full(count, row), columns], axis=1))
            targets.append(np.asarray(generation.token_ids, dtype=np.int64))
            old.append(np.asarray(generation.logprobs, dtype=np.float32))
            token_step.append(np.full(count, steps_so_far))
            steps_so_far += 1
            length += count
            pieces += [generation.prompt_ids, generation.token_ids]
        sequences.append(np.concatenate([np.asarray(piece, dtype=np.int64) for piece in pieces]))
    ids = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    flat_advantages = np.ones(steps_so_far) if advantages is None else np.concatenate([np.asarray(a) for a in advantages])
    flat_returns = np.zeros(steps_so_far) if returns is None else np.concatenate([np.asarray(r) for r in returns])
    action_tokens = np.concatenate(targets)
    flat_reference = np.zeros(len(action_tokens)) if ref_logprobs is None else np.concatenate([np.asarray(one) for one in ref_logprobs])
    return Batch(
        ids=torch.from_numpy(ids),
        token_at=torch.from_numpy(np.concatenate(token_at).astype(np.int64)),
        targets=torch.from_numpy(action_tokens),
        old_logprobs=torch.from_numpy(np.concatenate(old)),
        ref_logprobs=torch.from_numpy(flat_reference.astype(np.float32)),
        token_step=torch.from_numpy(np.concatenate(token_step).astype(np.int64)),
        state_at=torch.tensor(state_at),
        prompt_lengths=torch.tensor([len(trajectory.steps[0].generation.prompt_ids) for trajectory in trajectories]),
        advantages=torch.from_numpy(flat_advantages.astype(np.float32)),
        returns=torch.from_numpy(flat_returns.astype(np.float32)),
        weights=torch.tensor(weights),
        tokens=sum(map(len, sequences)),
    )


def length(trajectory: Trajectory) -> int:
    """Return the number of tokens of a trajectory, context and actions."""
    return sum(len(step.generation.prompt_ids) + len(step.generation.token_ids) for step in trajectory.steps)


def micro_batches(trajectories: Sequence[Trajectory], token_budget: int) -> Iterator[list[int]]:
    """Yield indices of trajectories of similar length, with at most ``token_budget`` padded tokens together.

    A trajectory that is longer than the budget comes alone.
    """
    order = sorted(range(len(trajectories)), key=lambda index: -length(trajectories[index]))
    group: list[int] = []
    for index in order:
        if group and (len(group) + 1) * length(trajectories[group[0]]) > token_budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
