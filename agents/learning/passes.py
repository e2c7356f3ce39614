"""``Passes``: how training runs the model over trajectories, with and without gradient.

    passes = Passes(lm, token_budget=2048)
    logprobs = passes.measure(trajectories, lambda encoded: encoded.by_trajectory(encoded.logprobs()))       # without gradient
    metrics = passes.step(optimizer, trajectories, lambda encoded: (-encoded.logprobs().sum() / tokens, {}))    # one optimizer step

It splits trajectories into micro-batches, of relatives or of similar length, distributes these over the processes, keeps processes with sharded
weights in step, moves tensors to the model's device, counts tokens and time, accumulates gradients, and clips them. An algorithm
only says what to measure or to minimize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..models.language_model import LanguageModel
from ..models.value_head import mean_by
from ..parallel import processes, sharding
from ..trajectory import Trajectory
from .batches import Batch, collate, length, micro_batches
from .losses import action_logprobs
from .relatives import Units, tokens_of

__all__ = ["Encoded", "Passes", "Unit"]

T = TypeVar("T")

WORTH = 1.08
"""Trees are read where rows would have at least so many times their tokens: below that, branches cost more than they save."""

Unit = Sequence[Trajectory]
"""Trajectories that must be in the same micro-batch, such as the pair of a preference loss."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A micro-batch after the forward pass: trajectories with S steps and N action tokens in all."""

    indices: list[int]
    """Index of each unit of the micro-batch in the list of all units of the pass."""
    batch: Batch
    hidden: Tensor
    """(B, L, H) float32, the last hidden states of ``batch.ids``."""
    lm: LanguageModel
    temperature: float

    def logprobs(self, *, temperature: float | None = None) -> Tensor:
        """Return the log-probabilities (N,) of the action tokens, by default at the policy's sampling temperature."""
        return self._of_actions(self._head(temperature), entropy=False)[0]

    def logprobs_and_entropy(self, *, learned: bool = True) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies in nats, (N,) each; ``learned``: the loss depends on the entropies, too."""
        return self._of_actions(self._head(None), entropy=True, learned=learned)

    @property
    def states(self) -> Tensor:
        """(S, H) hidden states at the last context token of each step."""
        return self._flat[self.batch.state_at]

    @property
    def actions(self) -> Tensor:
        """(S, H) hidden states at the last action token of each step."""
        return self._flat[self.batch.action_at]

    @property
    def tasks(self) -> Tensor:
        """(S, H) mean hidden states over the first observation of each step's trajectory."""
        batch = self.batch
        return mean_by(self._flat[batch.opening_at], batch.opening_of, int(batch.opening.max()) + 1)[batch.opening]

    def values(self) -> Tensor:
        """Return the value head's estimates (S,)."""
        return self.lm.value_head(self.states, self.tasks)  # type: ignore[no-any-return]

    def by_trajectory(self, tensor: Tensor, unit: Literal["tokens", "steps"] = "tokens") -> list[np.ndarray]:
        """Split one number per action token (N,), or per step (S,), into float64 arrays, one per trajectory."""
        sizes = self.batch.actions if unit == "tokens" else self.batch.steps
        return np.split(tensor.detach().double().cpu().numpy(), np.cumsum(sizes)[:-1])

    def tensor(self, arrays: Sequence[ArrayLike]) -> Tensor:
        """Concatenate arrays, one per trajectory, into one float32 tensor on the model's device."""
        flat = np.concatenate([np.asarray(array) for array in arrays])
        return torch.from_numpy(flat.astype(np.float32)).to(self.hidden.device)

    @property
    def _flat(self) -> Tensor:
        return self.hidden.flatten(0, 1)

    def _of_actions(self, head: Callable[[Tensor], Tensor], *, entropy: bool, learned: bool = False) -> tuple[Tensor, Tensor]:
        batch = self.batch
        at, targets = batch.token_at, batch.targets
        if batch.distinct is not None:
            at, targets = at[batch.distinct], targets[batch.distinct]
        frozen = not learned and not self.lm.head_learns
        logprobs, entropies = action_logprobs(self._flat[at], head, targets, entropy=entropy, frozen=frozen)  # type: ignore[call-overload]
        if batch.copies is not None:  # each trajectory has its own advantage: in the backward pass, the gradients of copies add up
            logprobs = logprobs.index_select(0, batch.copies)
            entropies = entropies.index_select(0, batch.copies) if entropy else None
        return logprobs, entropies

    def _head(self, temperature: float | None) -> Callable[[Tensor], Tensor]:
        # The policy is the softmax at the sampling temperature, so ratios must compare probabilities at that temperature.
        divisor = self.temperature if temperature is None else temperature
        return self.lm.logits if divisor == 1.0 else lambda hidden: self.lm.logits(hidden) / divisor


class Passes:
    """Runs a model over trajectories, with and without gradient.

    All processes must call the same methods with the same trajectories; each handles its share.

    Args:
        lm: The model.
        token_budget: Maximum number of tokens in one forward pass, padding included; bounds memory and changes no result.
        temperature: Sampling temperature of the policy.
        max_grad_norm: Gradients with a larger norm are scaled down to this norm.
    """

    def __init__(self, lm: LanguageModel, *, token_budget: int = 16_384, temperature: float = 1.0, max_grad_norm: float = 1.0) -> None:
        self.lm, self.token_budget, self.temperature, self.max_grad_norm = lm, token_budget, temperature, max_grad_norm
        self.tokens = 0
        """Tokens of the trajectories in all forward passes of all processes so far, whether encoded once or often; backward passes do not count."""

    def encode(self, units: Sequence[Unit]) -> Iterator[Encoded]:
        """Yield this process's share of the units after the forward pass, micro-batch by micro-batch; the caller may call ``backward`` on each."""
        self.tokens += sum(length(trajectory) for unit in units for trajectory in unit)
        profiler = self.lm.profiler
        with profiler("encode"):
            groups, shared = self._micro_batches(units)
        for chosen in self.lm.in_step(groups):
            with profiler("encode"):
                batch = collate([trajectory for index in chosen for trajectory in units[index]], shared=shared).to(self.lm.device)
            with profiler("forward"):
                hidden = self.lm.hidden(batch.ids, tree=batch.tree)
            profiler.count("forward", batch.tokens)
            yield Encoded(chosen, batch, hidden, self.lm, self.temperature)

    def _micro_batches(self, units: Sequence[Unit]) -> tuple[list[list[int]], bool]:
        """Return this process's micro-batches, and whether their trajectories are encoded as trees. All processes decide alike."""
        padded = list(micro_batches([(len(unit), max(map(length, unit))) for unit in units], self.token_budget))
        if self.lm.reads_trees and sum(map(len, units)) > 1:
            relatives = Units([[tokens_of(trajectory) for trajectory in unit] for unit in units])
            cost = sum(size for _, size in relatives.micro_batches(relatives.order, self.token_budget))
            rows = [[length(trajectory) for index in group for trajectory in units[index]] for group in padded]
            if cost * WORTH <= sum(len(group) * max(group) for group in rows):
                share = relatives.shares(processes.world())[processes.rank()]
                return [group for group, _ in relatives.micro_batches(share, self.token_budget)], True
        if processes.world() > 1:
            local = processes.share(range(len(units)))
            sizes = [(len(units[index]), max(map(length, units[index]))) for index in local]
            padded = [[local[place] for place in group] for group in micro_batches(sizes, self.token_budget)]
        return padded, False

    @torch.no_grad()
    def measure(self, trajectories: Sequence[Trajectory], read: Callable[[Encoded], Sequence[T]], *, weights: Mapping[str, Tensor] | None = None) -> list[T]:
        """Run the model over trajectories without gradient.

        Args:
            trajectories: The trajectories.
            read: From a micro-batch to one result per trajectory in it.
            weights: Trainable weights by name to use instead of the model's own, such as the reference policy's; restored afterwards.

        Returns:
            One result per trajectory, in their order; the same in every process.
        """
        results: list[tuple[int, T]] = []
        with self.lm.swapped(dict(weights)) if weights else nullcontext():
            for encoded in self.encode([(trajectory,) for trajectory in trajectories]):
                with self.lm.profiler("forward"):
                    results += zip(encoded.indices, read(encoded), strict=True)
        found = dict(processes.gather(results))
        return [found[index] for index in range(len(trajectories))]

    def step(self, optimizer: torch.optim.Optimizer, units: Sequence[Unit], loss: Callable[[Encoded], tuple[Tensor, Mapping[str, float]]]) -> dict[str, float]:
        """Take one optimizer step on the sum of the losses of all units; return the summed metrics, and ``grad_norm``.

        Args:
            optimizer: Over ``lm.trainable()``.
            units: The data of this one step, however many micro-batches it takes.
            loss: From a micro-batch to its share of the loss and of each metric; normalize by all units, not by the micro-batch.
        """
        measured: dict[str, float] = {}
        profiler = self.lm.profiler
        parameters = self.lm.trainable().values()
        optimizer.zero_grad(set_to_none=True)
        for encoded in self.encode(units):
            with profiler("forward"):
                share, metrics = loss(encoded)
            with profiler("backward"):
                share.backward()
            profiler.count("backward", encoded.batch.tokens)
            for name, value in metrics.items():
                measured[name] = measured.get(name, 0.0) + value
        with profiler("optimizer"):
            processes.add_gradients(parameters)
            norm = sharding.clip_gradients(parameters, self.max_grad_norm)
            optimizer.step()
        return {**processes.add_numbers(measured), "grad_norm": norm}
