"""From trajectories to tensors: each trajectory is one sequence, however many steps it has.

A trajectory's sequence is the concatenation of its steps' context and action tokens. Sequences are rows, padded; or, where they begin
alike, a tree in one row, so that what they share is encoded once. The losses use only the hidden states that
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

from ..models.tree import Tree, packed
from ..trajectory import Generation, Trajectory
from .relatives import Forest, tokens_of

__all__ = ["Batch", "action_tokens", "collate", "length", "micro_batches"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Trajectories as tensors: N action tokens and S steps in all. A place is an index into the flattened ``ids``."""

    ids: Tensor
    """(B, L) token ids: one trajectory a row, padded on the right with 0, which causal attention never sees; or one row, that of ``tree``."""
    tree: Tree | None
    """What the trajectories have in common, encoded once; None: each has a row of its own."""
    token_at: Tensor
    """(N,) place of the hidden state that predicts each action token."""
    targets: Tensor
    """(N,) the action tokens."""
    distinct: Tensor | None
    """(U,) the first of the action tokens that are predicted alike: the same token from the same state. None: all differ."""
    copies: Tensor | None
    """(N,) which of the distinct ones each action token is."""
    old_logprobs: Tensor
    """(N,) their log-probabilities when they were sampled."""
    token_step: Tensor
    """(N,) the step, 0 to S - 1, that each action token belongs to."""
    state_at: Tensor
    """(S,) place of the hidden state of each step's state: its last context token."""
    action_at: Tensor
    """(S,) place of each step's last action token; of its state if it has none."""
    opening_at: Tensor
    """(F,) places of the tokens of first observations; what trajectories share is there once."""
    opening_of: Tensor
    """(F,) the first observation that each belongs to."""
    opening: Tensor
    """(S,) the first observation of each step's trajectory."""
    weights: Tensor
    """(S,) 0 for steps that must not be learned from (infrastructure faults, no tokens), else 1."""
    steps: tuple[int, ...]
    """Steps of each trajectory."""
    actions: tuple[int, ...]
    """Action tokens of each trajectory."""
    tokens: int
    """Tokens of all trajectories, without padding; what they share counts for each."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch with all its tensors on a device."""
        moved: dict[str, Any] = {name: value.to(device) for name in self.__slots__ if isinstance(value := getattr(self, name), (Tensor, Tree))}
        return replace(self, **moved)


def collate(trajectories: Sequence[Trajectory], *, shared: bool = False) -> Batch:
    """Make one batch of trajectories, on the CPU; each trajectory must have at least one token.

    Args:
        trajectories: At least one.
        shared: Encode what they have in common once, as a tree; else pad them.
    """
    sequences = [tokens_of(trajectory) for trajectory in trajectories]
    ids, paths, tree = _packed(sequences) if shared else _padded(sequences)
    token_at, targets, old_logprobs, token_step, weights = [], [], [], [], []
    state_at: list[int] = []
    action_at: list[int] = []
    opening: list[int] = []
    openings: dict[tuple[int, int], int] = {}
    opening_at: list[np.ndarray] = []
    counts: list[int] = []
    for trajectory, path in zip(trajectories, paths, strict=True):
        first = len(trajectory.steps[0].generation.prompt_ids)
        # Trajectories whose paths meet at the end of their first observations have the same one.
        number = openings.setdefault((first, int(path[first - 1]) if first else 0), len(openings))
        if number == len(opening_at):
            opening_at.append(path[:first])
        total = 0
        for step in trajectory.steps:
            generation = step.generation
            total += len(generation.prompt_ids)
            count = generation.sampled
            state_at.append(int(path[max(total - 1, 0)]))
            weights.append(0.0 if step.masked or not count else 1.0)
            token_at.append(_sampled(generation, path[np.arange(total - 1, total - 1 + len(generation.token_ids))]))
            targets.append(_sampled(generation, np.asarray(generation.token_ids, dtype=np.int64)))
            old_logprobs.append(_sampled(generation, np.asarray(generation.logprobs, dtype=np.float32)))
            token_step.append(np.full(count, len(counts)))
            counts.append(count)
            total += len(generation.token_ids)
            action_at.append(int(path[max(total - 1, 0)]))
            opening.append(number)
    at, its_targets = np.concatenate(token_at), np.concatenate(targets)
    distinct, copies = _distinct(at, its_targets) if shared else (None, None)
    return Batch(
        ids=torch.from_numpy(ids),
        tree=tree,
        token_at=torch.from_numpy(at),
        targets=torch.from_numpy(its_targets),
        distinct=distinct,
        copies=copies,
        old_logprobs=torch.from_numpy(np.concatenate(old_logprobs)),
        token_step=torch.from_numpy(np.concatenate(token_step).astype(np.int64)),
        state_at=torch.tensor(state_at),
        action_at=torch.tensor(action_at),
        opening_at=torch.from_numpy(np.concatenate(opening_at)),
        opening_of=torch.repeat_interleave(torch.tensor(list(map(len, opening_at)))),
        opening=torch.tensor(opening),
        weights=torch.tensor(weights),
        steps=tuple(len(trajectory.steps) for trajectory in trajectories),
        actions=tuple(map(action_tokens, trajectories)),
        tokens=sum(map(len, sequences)),
    )


def _padded(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray], None]:
    """Return the sequences as rows, and the places of each one's tokens."""
    ids = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    return ids, [np.arange(len(sequence)) + row * ids.shape[1] for row, sequence in enumerate(sequences)], None


def _packed(sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray], Tree]:
    """Return the sequences as the row of a tree, the places of each one's tokens, and the tree."""
    forest = Forest(sequences)
    row, sorted_paths, tree = packed([sequences[index] for index in forest.order], forest.common)
    paths = [sorted_paths[forest.rank[index]] for index in range(len(sequences))]
    return row[None], paths, tree


def _distinct(places: np.ndarray, targets: np.ndarray) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Return the first of the pairs that are equal, (U,), and which of these each pair is, (N,); None if all differ."""
    pairs = np.stack([places, targets], axis=1)
    _, first, copies = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    return (torch.from_numpy(first), torch.from_numpy(copies.reshape(-1))) if len(first) < len(places) else (None, None)


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
