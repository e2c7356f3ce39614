"""``Passes``: the one way in which training reads trajectories.

    passes = Passes(lm, token_budget=2048)
    logprobs = passes.measure(trajectories, lambda encoded: encoded.by_trajectory(encoded.logprobs()))       # without gradient
    seen = passes.step(optimizer, trajectories, lambda encoded: (-encoded.logprobs().sum() / tokens, {}))    # one optimizer step

It cuts trajectories into micro-batches of similar length, shares these out among the processes, keeps processes in step whose
weights are cut up, puts tensors on the model's device, counts tokens and time, adds up gradients, and clips them. An algorithm says
what is to be measured or minimized, and can forget none of the rest.
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
from ..models.value_head import mean_over_first
from ..parallel import processes, sharding
from ..trajectory import Trajectory
from .batches import Batch, collate, length, micro_batches
from .losses import action_logprobs

__all__ = ["Encoded", "Passes", "Unit"]

T = TypeVar("T")

Unit = Sequence[Trajectory]
"""Trajectories that must be read together, such as the pair of a preference loss."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A micro-batch that the model has read: B trajectories with S steps and N action tokens in all."""

    places: list[int]
    """Of each unit of the micro-batch, its place among those that the pass was asked for."""
    batch: Batch
    hidden: Tensor
    """(B, L, H) float32, the last hidden states."""
    lm: LanguageModel
    temperature: float

    def logprobs(self, *, temperature: float | None = None) -> Tensor:
        """Return the log-probabilities (N,) of the action tokens, at the temperature at which the policy samples unless another is given."""
        return action_logprobs(self._predicting(), self._head(temperature), self.batch.targets)[0]

    def logprobs_and_entropy(self) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies in nats, (N,) each."""
        return action_logprobs(self._predicting(), self._head(None), self.batch.targets, entropy=True)

    @property
    def states(self) -> Tensor:
        """(S, H) after the last token of the context of each step."""
        return self.hidden[self.batch.state_at[:, 0], self.batch.state_at[:, 1]]

    @property
    def actions(self) -> Tensor:
        """(S, H) after the last token of the action of each step."""
        return self.hidden[self.batch.state_at[:, 0], self.batch.state_at[:, 1] + self.batch.action_lengths]

    @property
    def tasks(self) -> Tensor:
        """(S, H) the mean over the first observation of each step's trajectory."""
        return mean_over_first(self.hidden, self.batch.prompt_lengths)[self.batch.state_at[:, 0]]

    def values(self) -> Tensor:
        """Return the value head's estimates (S,)."""
        return self.lm.value_head(self.states, self.tasks)  # type: ignore[no-any-return]

    def by_trajectory(self, tensor: Tensor, unit: Literal["tokens", "steps"] = "tokens") -> list[np.ndarray]:
        """Cut one number per action token (N,), or per step (S,), into float64 arrays, one for each trajectory."""
        sizes = self.batch.actions if unit == "tokens" else self.batch.steps
        return np.split(tensor.detach().double().cpu().numpy(), np.cumsum(sizes)[:-1])

    def tensor(self, arrays: Sequence[ArrayLike]) -> Tensor:
        """Return arrays, one for each trajectory, as one float32 tensor beside the hidden states."""
        flat = np.concatenate([np.asarray(array) for array in arrays])
        return torch.from_numpy(flat.astype(np.float32)).to(self.hidden.device)

    def _predicting(self) -> Tensor:
        return self.hidden[self.batch.token_at[:, 0], self.batch.token_at[:, 1]]  # (N, H)

    def _head(self, temperature: float | None) -> Callable[[Tensor], Tensor]:
        # The policy is the softmax at the sampling temperature, so it is that softmax whose probabilities are compared.
        divisor = self.temperature if temperature is None else temperature
        return self.lm.logits if divisor == 1.0 else lambda hidden: self.lm.logits(hidden) / divisor


class Passes:
    """Reads trajectories with a model, with and without gradient.

    All processes must call the same methods with the same trajectories; each reads its share.

    Args:
        lm: The model.
        token_budget: Most padded tokens in one forward pass; bounds memory, changes no result.
        temperature: At which the policy samples.
        max_grad_norm: Gradients are scaled down to this norm.
    """

    def __init__(self, lm: LanguageModel, *, token_budget: int = 16_384, temperature: float = 1.0, max_grad_norm: float = 1.0) -> None:
        self.lm, self.token_budget, self.temperature, self.max_grad_norm = lm, token_budget, temperature, max_grad_norm
        self.tokens = 0
        """Tokens that all processes have read so far; a backward pass does not count a second time."""

    def encode(self, units: Sequence[Unit]) -> Iterator[Encoded]:
        """Read this process's share of the units, micro-batch by micro-batch. What follows may call ``backward``."""
        places = processes.share(range(len(units)))
        self.tokens += sum(length(trajectory) for unit in units for trajectory in unit)
        sizes = [(len(units[place]), max(map(length, units[place]))) for place in places]
        profiler = self.lm.profiler
        for group in self.lm.in_step(micro_batches(sizes, self.token_budget)):
            chosen = [places[index] for index in group]
            with profiler("encode"):
                batch = collate([trajectory for place in chosen for trajectory in units[place]]).to(self.lm.device)
            with profiler("forward"):
                hidden = self.lm.hidden(batch.ids)
            profiler.count("forward", batch.tokens)
            yield Encoded(chosen, batch, hidden, self.lm, self.temperature)

    @torch.no_grad()
    def measure(self, trajectories: Sequence[Trajectory], read: Callable[[Encoded], Sequence[T]], *, weights: Mapping[str, Tensor] | None = None) -> list[T]:
        """Read trajectories without gradient.

        Args:
            trajectories: What to read.
            read: From a micro-batch to one result for each of its trajectories.
            weights: Other trainable weights by name to read with, such as the reference policy's; the model has its own again afterwards.

        Returns:
            One result per trajectory, in their order; the same in every process.
        """
        found: dict[int, T] = {}
        with self.lm.swapped(dict(weights)) if weights else nullcontext():
            for encoded in self.encode([(trajectory,) for trajectory in trajectories]):
                with self.lm.profiler("forward"):
                    found.update(zip(encoded.places, read(encoded), strict=True))
        return processes.gather([found[place] for place in processes.share(range(len(trajectories)))])

    def step(self, optimizer: torch.optim.Optimizer, units: Sequence[Unit], loss: Callable[[Encoded], tuple[Tensor, Mapping[str, float]]]) -> dict[str, float]:
        """Take one optimizer step down the sum of losses over all units; return the sums of what was measured, and ``grad_norm``.

        Args:
            optimizer: Over ``lm.trainable()``.
            units: What to learn from, all of it in one step, however it is cut up.
            loss: From a micro-batch to its share of the loss, and of what is measured: weights are over all units, not over the micro-batch.
        """
        measured: dict[str, float] = {}
        profiler = self.lm.profiler
        parameters = self.lm.trainable().values()
        optimizer.zero_grad(set_to_none=True)
        for encoded in self.encode(units):
            with profiler("forward"):
                share, seen = loss(encoded)
            with profiler("backward"):
                share.backward()
            profiler.count("backward", encoded.batch.tokens)
            for name, value in seen.items():
                measured[name] = measured.get(name, 0.0) + value
        with profiler("optimizer"):
            processes.add_gradients(parameters)
            norm = sharding.clip_gradients(parameters, self.max_grad_norm)
            optimizer.step()
        return {**processes.add_numbers(measured), "grad_norm": norm}
