"""``archer-lite``: an off-policy critic over turns, and a policy gradient over tokens.

Twin critics learn from a replay buffer what a call is worth, Q(s, a), and what a state is worth, V(s); the policy gives each
token of a call the advantage Q - V of that call. Source: Zhou et al., "ArCHer: Training Language Model Agents via
Hierarchical Multi-Turn RL" (arXiv 2402.19446), sections 3.2 and 3.3:

    Q_i(s, a) ← r + γ·(1 - d)·V̄_i(s')      over the buffer;  V̄, Q̄: target networks
    V_i(s) ← Q̄_i(s, a),  a ~ π(·|s)         over the newest episodes, whose calls are the policy's own
    A(s, a) = min_i Q_i(s, a) - min_i V_i(s)

The critics are small heads on the hidden states of the policy after its warm start. These never change, so the states in
the buffer stay valid. What makes it "lite" beside the authors' code: there the critics are an encoder of their own (RoBERTa), warmed up
for 20 × 50 epochs, the buffer holds 100,000 turns, actions are sampled anew in old states, and advantages are not whitened.

``algo_options``: ``"critic_lr"`` (1e-3), ``"critic_passes"`` (10) over the buffer per update, ``"tau"`` (0.1), the rate of the soft
updates of the targets, ``"capacity"`` (4096) steps of the buffer, ``"warmup"`` (2) updates in which only the critics learn.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from ..config import Config, LearningConfig
from ..credit import step_returns
from ..credit.schemes import normalize
from ..learning.advantages import Credited, scale_negative
from ..learning.again import Again
from ..learning.critic import explained_variance
from ..learning.losses import value_loss
from ..learning.optimizer import policy_optimizer
from ..learning.passes import Encoded, Passes
from ..learning.policy_gradient import improve
from ..models.value_head import ValueHead
from ..parallel import processes
from ..runs.loop import Loop
from ..runs.run import Run
from ..trajectory import Trajectory

__all__ = ["Critics", "Memory", "Turns", "credit_turns", "encode", "fit_critics", "train"]


@dataclass(frozen=True, slots=True)
class Turns:
    """N steps as inputs of the critics."""

    state: Tensor
    """(N, H) hidden states at the last context token."""
    action: Tensor
    """(N, H) hidden states at the last action token."""
    task: Tensor
    """(N, H) mean hidden states over the first observation."""
    next_state: Tensor
    """(N, H) ``state`` of the next step; zeros after the last one."""
    reward: Tensor
    """(N,)"""
    not_done: Tensor
    """(N,) 1 if there is a next step, else 0: 1 - d."""
    weight: Tensor
    """(N,) 0 for masked steps, whose tool was down, else 1."""

    def __len__(self) -> int:
        return len(self.reward)

    def __getitem__(self, rows: Tensor | slice) -> Turns:
        return Turns(*(getattr(self, name)[rows] for name in self.__slots__))

    def append(self, newer: Turns, capacity: int) -> Turns:
        """Return these steps and newer ones, but only the last ``capacity``."""
        return Turns(*(torch.cat([getattr(self, name), getattr(newer, name)])[-capacity:] for name in self.__slots__))


class Critics(nn.Module):
    """Twin critics Q(s, a) and V(s), each with a target network.

    Args:
        width: H, the size of the policy's hidden states.
        seed: Seeds the weights.
    """

    def __init__(self, width: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.q = nn.ModuleList([ValueHead(width) for _ in range(2)])
            self.v = nn.ModuleList([ValueHead(width) for _ in range(2)])
        self.q_target, self.v_target = copy.deepcopy(self.q), copy.deepcopy(self.v)
        self.q_target.requires_grad_(False)
        self.v_target.requires_grad_(False)

    @torch.no_grad()
    def advantages(self, turns: Turns) -> tuple[Tensor, Tensor]:
        """Return A (N,) and V (N,)."""
        q = torch.stack([head(turns.action, turns.task) for head in self.q]).min(0).values
        v = torch.stack([head(turns.state, turns.task) for head in self.v]).min(0).values
        return q - v, v

    @torch.no_grad()
    def update_targets(self, tau: float) -> None:
        """Soft update of the targets: θ̄ ← θ̄ + τ·(θ - θ̄)."""
        for online, target in ((self.q, self.q_target), (self.v, self.v_target)):
            for parameter, target_parameter in zip(online.parameters(), target.parameters(), strict=True):
                target_parameter.lerp_(parameter, tau)


class Memory:
    """The critics and their replay buffer, saved with every checkpoint.

    Args:
        critics: Restored in place.
        capacity: Maximum number of steps in the buffer; it always holds at least those of the newest update.
    """

    def __init__(self, critics: Critics, capacity: int) -> None:
        self.critics, self.capacity = critics, capacity
        self.buffer: Turns | None = None

    def add(self, newest: Turns) -> Turns:
        """Add the steps of an update, drop the oldest ones beyond the capacity, and return the buffer."""
        self.buffer = newest if self.buffer is None else self.buffer.append(newest, max(self.capacity, len(newest)))
        return self.buffer

    def state_dict(self) -> dict[str, Tensor]:
        """Return critics and buffer as tensors."""
        critics = {f"critics.{name}": tensor.detach() for name, tensor in self.critics.state_dict().items()}
        return critics | {f"buffer.{name}": getattr(self.buffer, name).contiguous() for name in Turns.__slots__}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Restore critics and buffer from ``state_dict``."""
        critics = {name.removeprefix("critics."): tensor for name, tensor in tensors.items() if name.startswith("critics.")}
        self.critics.load_state_dict(critics)
        self.buffer = Turns(*(tensors[f"buffer.{name}"] for name in Turns.__slots__))


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Improve a policy with a critic that also learns from old episodes; arguments and report as for ``step_ppo.train``."""
    learning = config.learning
    with Run(config, out, resume=resume, console=console) as run:
        options = run.options(critic_lr=1e-3, critic_passes=10, tau=0.1, capacity=4096, warmup=2)
        critics = Critics(run.lm.config.hidden_size, config.run.seed).to(run.lm.device)
        memory = Memory(critics, options["capacity"])
        optimizer = policy_optimizer(run.lm, learning.lr)
        optimizer.add_param_group({"params": [*critics.q.parameters(), *critics.v.parameters()], "lr": options["critic_lr"], "name": "critics"})
        loop = Loop(run, optimizer, stateful=memory)
        again = Again(run.passes, learning, run.state)
        for episodes in loop:
            newest = encode(run.passes, episodes, run.reference)
            buffer = memory.add(newest)
            loop.log(fit_critics(critics, optimizer, buffer, newest, learning.gamma, run.rng, passes=options["critic_passes"], tau=options["tau"]))
            credited, explained = credit_turns(critics, newest, episodes, learning)
            loop.log({"explained_variance": explained})
            if run.update >= options["warmup"]:
                loop.log(improve(run.passes, optimizer, credited, learning, run.rng, run.reference))
            loop.log(again(optimizer, episodes, run.rng))  # from the first update on: it needs no critic
        return loop.report()


def encode(passes: Passes, trajectories: Sequence[Trajectory], weights: Mapping[str, Tensor]) -> Turns:
    """Return the steps of trajectories, in their order, as hidden states of the model with other weights (those of the warm start).

    Args:
        passes: Passes of the model; its own weights are restored afterwards.
        trajectories: The episodes.
        weights: Trainable weights by name; empty: the model's own.
    """

    def turns(encoded: Encoded) -> list[Turns]:
        members = [trajectories[index] for index in encoded.indices]
        sizes = encoded.batch.steps
        per_trajectory = []
        states, actions, tasks = (processes.portable(hidden).split(sizes) for hidden in (encoded.states, encoded.actions, encoded.tasks))
        for trajectory, state, action, task in zip(members, states, actions, tasks, strict=True):
            options = {"dtype": torch.float32, "device": state.device}
            per_trajectory.append(
                Turns(
                    state=state,
                    action=action,
                    task=task,
                    next_state=torch.cat([state[1:], torch.zeros_like(state[:1])]),
                    reward=torch.tensor(trajectory.rewards, **options),
                    not_done=torch.tensor([1.0] * (len(state) - 1) + [0.0], **options),
                    weight=torch.tensor(~trajectory.masked, **options),
                )
            )
        return per_trajectory

    parts = passes.measure(trajectories, turns, weights=weights)
    return Turns(*(torch.cat([getattr(part, name) for part in parts]).to(passes.lm.device) for name in Turns.__slots__))


def fit_critics(
    critics: Critics,
    optimizer: torch.optim.Optimizer,
    buffer: Turns,
    newest: Turns,
    gamma: float,
    rng: np.random.Generator,
    *,
    passes: int,
    tau: float,
    batch: int = 256,
) -> dict[str, float]:
    """Fit Q to the buffer and V to the newest steps; return the mean losses of the last pass.

    Args:
        critics: Changed in place.
        optimizer: Over their parameters; any other parameters in it must have no gradient.
        buffer: Steps of this and of earlier policies.
        newest: Steps of this policy.
        gamma: γ, once per step.
        rng: Draws the minibatches.
        passes: Number of passes over the buffer.
        tau: Rate of the soft update of the targets, per optimizer step.
        batch: Steps per minibatch.
    """
    buffer, newest = buffer[buffer.weight > 0], newest[newest.weight > 0]
    losses = []
    for epoch in range(passes if len(newest) else 0):
        for rows in torch.from_numpy(rng.permutation(len(buffer))).split(batch):
            replayed, fresh = buffer[rows], newest[torch.from_numpy(rng.integers(len(newest), size=min(batch, len(newest))))]
            optimizer.zero_grad(set_to_none=True)
            q_loss, v_loss = torch.zeros(()), torch.zeros(())
            for q, v, q_target, v_target in zip(critics.q, critics.v, critics.q_target, critics.v_target, strict=True):
                with torch.no_grad():
                    bellman = replayed.reward + gamma * replayed.not_done * v_target(replayed.next_state, replayed.task)
                    expected = q_target(fresh.action, fresh.task)
                q_loss = q_loss + value_loss(q(replayed.action, replayed.task), bellman).mean()
                v_loss = v_loss + value_loss(v(fresh.state, fresh.task), expected).mean()
            (q_loss + v_loss).backward()
            optimizer.step()
            critics.update_targets(tau)
            if epoch == passes - 1:
                losses.append((float(q_loss.detach()), float(v_loss.detach())))
    optimizer.zero_grad(set_to_none=True)
    means = np.mean(losses, axis=0) if losses else (float("nan"), float("nan"))
    return {"q_loss": float(means[0]), "v_loss": float(means[1])}


def credit_turns(critics: Critics, newest: Turns, trajectories: Sequence[Trajectory], learning: LearningConfig) -> tuple[Credited, float]:
    """Return the trajectories with the critics' advantages, whitened, and the share of the returns' variance that V explains.

    Args:
        critics: The critics.
        newest: The steps of the trajectories.
        trajectories: The episodes of the newest update.
        learning: Uses ``gamma, negative``.
    """
    advantages, values = (tensor.double().cpu().numpy() for tensor in critics.advantages(newest))
    live = np.concatenate([~trajectory.masked for trajectory in trajectories])
    returns = [step_returns(trajectory.rewards, learning.gamma) for trajectory in trajectories]
    borders = np.cumsum([len(array) for array in returns])[:-1]
    whitened = scale_negative(normalize(advantages, live), learning.negative)
    credited = Credited(list(trajectories), np.split(whitened, borders), returns)
    return credited, explained_variance(values[live], np.concatenate(returns)[live])
