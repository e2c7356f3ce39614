"""``archer``: an off-policy critic over turns, and a policy gradient over tokens.

Twin critics learn from a replay buffer what a call is worth, Q(s, a), and what a state is worth, V(s); the policy gives each
token of a call the advantage Q - V of that call. Source: Zhou et al., "ArCHer: Training Language Model Agents via
Hierarchical Multi-Turn RL" (arXiv 2402.19446), sections 3.2 and 3.3:

    Q_i(s, a) ← r + γ·(1 - d)·V̄_i(s')      over the buffer;  V̄, Q̄: slowly moving copies ("targets")
    V_i(s) ← Q̄_i(s, a),  a ~ π(·|s)         over the newest episodes, whose calls are the policy's own
    A(s, a) = min_i Q_i(s, a) - min_i V_i(s)

The critics are small heads on the hidden states of the policy after its warm start, which stay as they are: what lies in the
buffer keeps its meaning. What it leaves out: an encoder of the critics' own, actions sampled anew in old states.

``algo_options``: ``"critic_lr"`` (1e-3), ``"critic_passes"`` (10) over the buffer per update, ``"tau"`` (0.1), how fast the targets
move, ``"capacity"`` (4096) steps of the buffer, ``"warmup"`` (2) updates in which only the critics learn.
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
from ..learning.advantages import Credited, lessened
from ..learning.critic import explained_variance
from ..learning.losses import value_loss
from ..learning.optimizer import policy_optimizer
from ..learning.passes import Encoded, Passes
from ..learning.policy_gradient import improve
from ..models.value_head import ValueHead
from ..runs.loop import Loop
from ..runs.run import Run
from ..trajectory import Trajectory

__all__ = ["Critics", "Memory", "Turns", "credit_turns", "encode", "fit_critics", "train"]


@dataclass(frozen=True, slots=True)
class Turns:
    """Steps as the critics see them, N in all."""

    state: Tensor
    """(N, H) after the last token of the context."""
    action: Tensor
    """(N, H) after the last token of the action."""
    task: Tensor
    """(N, H) the mean over the first observation."""
    following: Tensor
    """(N, H) ``state`` of the next step; zeros after the last one."""
    reward: Tensor
    """(N,)"""
    goes_on: Tensor
    """(N,) 1 if there is a next step, else 0."""
    counts: Tensor
    """(N,) 0 for steps whose tool was down: nothing is to be learnt from them."""

    def __len__(self) -> int:
        return len(self.reward)

    def __getitem__(self, rows: Tensor | slice) -> Turns:
        return Turns(*(getattr(self, name)[rows] for name in self.__slots__))

    def joined(self, other: Turns, most: int) -> Turns:
        """Return both, the newest ``most`` steps of them."""
        return Turns(*(torch.cat([getattr(self, name), getattr(other, name)])[-most:] for name in self.__slots__))


class Critics(nn.Module):
    """Two of each: Q(s, a) and V(s), with targets that follow them slowly.

    Args:
        width: H, of the policy's hidden states.
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
    def follow(self, tau: float) -> None:
        """Move the targets: θ̄ ← θ̄ + τ·(θ - θ̄)."""
        for now, target in ((self.q, self.q_target), (self.v, self.v_target)):
            for parameter, slow in zip(now.parameters(), target.parameters(), strict=True):
                slow.lerp_(parameter, tau)


class Memory:
    """The critics and their replay buffer: what a resumed run must have again.

    Args:
        critics: Restored in place.
        capacity: Steps of the buffer; those of the newest update stay in any case.
    """

    def __init__(self, critics: Critics, capacity: int) -> None:
        self.critics, self.capacity = critics, capacity
        self.buffer: Turns | None = None

    def add(self, newest: Turns) -> Turns:
        """Return the buffer with the steps of an update, without the oldest."""
        self.buffer = newest if self.buffer is None else self.buffer.joined(newest, max(self.capacity, len(newest)))
        return self.buffer

    def kept(self) -> dict[str, Tensor]:
        """Return critics and buffer as tensors."""
        kept = {f"critics.{name}": tensor.detach() for name, tensor in self.critics.state_dict().items()}
        return kept | {f"buffer.{name}": getattr(self.buffer, name).contiguous() for name in Turns.__slots__}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what ``kept`` returned."""
        critics = {name.removeprefix("critics."): tensor for name, tensor in tensors.items() if name.startswith("critics.")}
        self.critics.load_state_dict(critics)
        self.buffer = Turns(*(tensors[f"buffer.{name}"] for name in Turns.__slots__))


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Improve a policy with a critic that learns from old episodes, too; arguments and report as for ``step_ppo.train``."""
    learning = config.learning
    with Run(config, out, resume=resume, console=console) as run:
        options = run.options(critic_lr=1e-3, critic_passes=10, tau=0.1, capacity=4096, warmup=2)
        critics = Critics(run.lm.config.hidden_size, config.run.seed).to(run.lm.device)
        memory = Memory(critics, options["capacity"])
        optimizer = policy_optimizer(run.lm, learning.lr)
        optimizer.add_param_group({"params": [*critics.q.parameters(), *critics.v.parameters()], "lr": options["critic_lr"], "name": "critics"})
        loop = Loop(run, optimizer, keeps=memory)
        for episodes in loop:
            newest = encode(run.passes, episodes, run.reference)
            buffer = memory.add(newest)
            loop.log(fit_critics(critics, optimizer, buffer, newest, learning.gamma, run.rng, passes=options["critic_passes"], tau=options["tau"]))
            credited, explained = credit_turns(critics, newest, episodes, learning)
            loop.log({"explained_variance": explained})
            if run.update >= options["warmup"]:
                loop.log(improve(run.passes, optimizer, credited, learning, run.rng, run.reference))
        return loop.report()


def encode(passes: Passes, trajectories: Sequence[Trajectory], weights: Mapping[str, Tensor]) -> Turns:
    """Return the steps of trajectories, in their order, as hidden states of the model with other weights (those of the warm start).

    Args:
        passes: Of the model; its own weights are back in place afterwards.
        trajectories: What was played.
        weights: Trainable weights by name; none: the model's own.
    """

    def turns(encoded: Encoded) -> list[Turns]:
        members = [trajectories[place] for place in encoded.places]
        sizes = encoded.batch.steps
        found = []
        for trajectory, state, action, task in zip(members, encoded.states.split(sizes), encoded.actions.split(sizes), encoded.tasks.split(sizes), strict=True):
            numbers = {"dtype": torch.float32, "device": state.device}
            found.append(
                Turns(
                    state=state,
                    action=action,
                    task=task,
                    following=torch.cat([state[1:], torch.zeros_like(state[:1])]),
                    reward=torch.tensor(trajectory.rewards, **numbers),
                    goes_on=torch.tensor([1.0] * (len(state) - 1) + [0.0], **numbers),
                    counts=torch.tensor(~trajectory.masked, **numbers),
                )
            )
        return found

    made = passes.measure(trajectories, turns, weights=weights)
    return Turns(*(torch.cat([getattr(turn, name) for turn in made]) for name in Turns.__slots__))


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
        optimizer: Over their parameters; those of others that it holds must have no gradient.
        buffer: Steps of this and of earlier policies.
        newest: Steps of this policy.
        gamma: γ, once per step.
        rng: Draws the minibatches.
        passes: Over the buffer.
        tau: How fast the targets follow, per optimizer step.
        batch: Steps per minibatch.
    """
    buffer, newest = buffer[buffer.counts > 0], newest[newest.counts > 0]
    seen = []
    for last in range(passes if len(newest) else 0):
        for rows in torch.from_numpy(rng.permutation(len(buffer))).split(batch):
            old, own = buffer[rows], newest[torch.from_numpy(rng.integers(len(newest), size=min(batch, len(newest))))]
            optimizer.zero_grad(set_to_none=True)
            q_loss, v_loss = torch.zeros(()), torch.zeros(())
            for q, v, q_slow, v_slow in zip(critics.q, critics.v, critics.q_target, critics.v_target, strict=True):
                with torch.no_grad():
                    target = old.reward + gamma * old.goes_on * v_slow(old.following, old.task)
                    worth = q_slow(own.action, own.task)
                q_loss = q_loss + value_loss(q(old.action, old.task), target).mean()
                v_loss = v_loss + value_loss(v(own.state, own.task), worth).mean()
            (q_loss + v_loss).backward()
            optimizer.step()
            critics.follow(tau)
            if last == passes - 1:
                seen.append((float(q_loss.detach()), float(v_loss.detach())))
    optimizer.zero_grad(set_to_none=True)
    means = np.mean(seen, axis=0) if seen else (float("nan"), float("nan"))
    return {"q_loss": float(means[0]), "v_loss": float(means[1])}


def credit_turns(critics: Critics, newest: Turns, trajectories: Sequence[Trajectory], learning: LearningConfig) -> tuple[Credited, float]:
    """Return the trajectories with the critics' advantages, whitened, and the share of the returns' variance that V explains.

    Args:
        critics: Whose advantages these are.
        newest: The steps of the trajectories.
        trajectories: What was played.
        learning: Uses ``gamma, negative``.
    """
    advantages, values = (one.double().cpu().numpy() for one in critics.advantages(newest))
    live = np.concatenate([~one.masked for one in trajectories])
    returns = [step_returns(one.rewards, learning.gamma) for one in trajectories]
    borders = np.cumsum([len(one) for one in returns])[:-1]
    white = lessened(normalize(advantages, live), learning.negative)
    credited = Credited(list(trajectories), np.split(white, borders), returns)
    return credited, explained_variance(values[live], np.concatenate(returns)[live])
