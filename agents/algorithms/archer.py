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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..credit.schemes import normalize, step_returns
from ..learning.advantages import Credited, lessened
from ..learning.batches import collate, micro_batches
from ..learning.critic import explained_variance
from ..learning.losses import value_loss
from ..learning.policy_gradient import anchored, improve, make_optimizer
from ..models.language_model import LanguageModel
from ..models.value_head import ValueHead, mean_over_first
from ..parallel import processes
from ..runs.loop import Updates
from ..trajectory import Trajectory

if TYPE_CHECKING:
    from rich.console import Console

    from ..config import Config

__all__ = ["Critics", "Turns", "credit_turns", "encode", "fit_critics", "train"]


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


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Improve a policy with a critic that learns from old episodes, too; arguments as for ``step_ppo.train``."""
    from ..runs.run import Run

    with Run(config, out, resume=resume, console=console) as run:
        config = run.config
        options = run.options(critic_lr=1e-3, critic_passes=10, tau=0.1, capacity=4096, warmup=2)
        run.warm_start()
        critics = Critics(run.lm.config.hidden_size, config.seed).to(run.lm.device)
        optimizer = make_optimizer(run.lm, config.lr)
        optimizer.add_param_group({"params": [*critics.q.parameters(), *critics.v.parameters()], "lr": options["critic_lr"]})
        kept = run.open(optimizer)
        buffer = _restore(critics, kept) if kept else None
        updates = Updates(run, optimizer)
        for trajectories in updates.played():
            newest = encode(run.lm, trajectories, run.reference, config)
            buffer = newest if buffer is None else buffer.joined(newest, max(options["capacity"], len(newest)))
            learnt = fit_critics(critics, optimizer, buffer, newest, config.gamma, run.rng, passes=options["critic_passes"], tau=options["tau"])
            credited, learnt["explained_variance"] = credit_turns(critics, newest, trajectories, config)
            run.encoded(trajectories)
            if run.update >= options["warmup"]:
                credited = anchored(run.lm, credited, run.reference, config)
                learnt |= improve(run.lm, optimizer, credited, config, run.rng)
                run.encoded(trajectories, config.epochs + bool(config.kl))
            updates.save(learnt, "reward {reward:.2f}", _state(critics, buffer))
        return updates.report()


@torch.no_grad()
def encode(lm: LanguageModel, trajectories: Sequence[Trajectory], weights: dict[str, Tensor], config: Config) -> Turns:
    """Return the steps of trajectories, in their order, as hidden states of the model with other weights (those of the warm start).

    Args:
        lm: The model; its own weights are back in place afterwards.
        trajectories: What was played.
        weights: Trainable weights by name.
        config: Uses ``token_budget``.
    """
    mine = processes.share(trajectories)
    found: list[Turns | None] = [None] * len(mine)
    with lm.swapped(weights):
        for group in lm.in_step(micro_batches(mine, config.token_budget)):
            batch = collate([mine[index] for index in group]).to(lm.device)
            hidden = lm.hidden(batch.ids)
            tasks = mean_over_first(hidden, batch.prompt_lengths)
            first = 0
            for row, index in enumerate(group):
                steps = mine[index].steps
                at, column = batch.state_at[first : first + len(steps)].T
                first += len(steps)
                said = torch.tensor([len(step.generation.token_ids) for step in steps], device=lm.device)
                state, action = hidden[at, column], hidden[at, column + said]
                found[index] = Turns(
                    state=state,
                    action=action,
                    task=tasks[row].expand_as(state),
                    following=torch.cat([state[1:], torch.zeros_like(state[:1])]),
                    reward=torch.tensor(mine[index].rewards, dtype=torch.float32, device=lm.device),
                    goes_on=torch.tensor([1.0] * (len(steps) - 1) + [0.0], device=lm.device),
                    counts=torch.tensor([float(not step.masked) for step in steps], device=lm.device),
                )
    made = processes.gather([one for one in found if one is not None])
    return Turns(*(torch.cat([getattr(one, name) for one in made]) for name in Turns.__slots__))


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


def credit_turns(critics: Critics, newest: Turns, trajectories: Sequence[Trajectory], config: Config) -> tuple[Credited, float]:
    """Return the trajectories with the critics' advantages, whitened, and the share of the returns' variance that V explains.

    Args:
        critics: Whose advantages these are.
        newest: The steps of the trajectories.
        trajectories: What was played.
        config: Uses ``gamma, negative``.
    """
    advantages, values = (one.double().cpu().numpy() for one in critics.advantages(newest))
    live = np.concatenate([~one.masked for one in trajectories])
    returns = [step_returns(one.rewards, config.gamma) for one in trajectories]
    borders = np.cumsum([len(one) for one in returns])[:-1]
    white = lessened(normalize(advantages, live), config.negative)
    credited = Credited(list(trajectories), np.split(white, borders), returns)
    return credited, explained_variance(values[live], np.concatenate(returns)[live])


def _state(critics: Critics, buffer: Turns) -> dict[str, Tensor]:
    kept = {f"critics.{name}": tensor.detach() for name, tensor in critics.state_dict().items()}
    return kept | {f"buffer.{name}": getattr(buffer, name).contiguous() for name in Turns.__slots__}


def _restore(critics: Critics, kept: dict[str, Tensor]) -> Turns:
    critics.load_state_dict({name.removeprefix("critics."): tensor for name, tensor in kept.items() if name.startswith("critics.")})
    return Turns(*(kept[f"buffer.{name}"] for name in Turns.__slots__))
