"""Proximal policy optimization in one file, in the manner of CleanRL: gymnasium's vector environments, torch, and nothing of StepTool.

The compact observation goes into a plain MLP; ``info["action_mask"]`` takes the probability from what is no call now. A part of
``sb3_zoo.py``, which plays it beside stable-baselines3.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

GAMMA, LAMBDA, CLIP, ENTROPY, EPOCHS, MINIBATCH, STEPS, RATE = 0.95, 0.95, 0.2, 0.01, 4, 256, 64, 1e-3


class Agent(nn.Module):
    """Two networks of two hidden layers: one for the actions, one for the value."""

    def __init__(self, numbers: int, actions: int, hidden: int = 256) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(numbers, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions))
        self.critic = nn.Sequential(nn.Linear(numbers, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        nn.init.orthogonal_(self.actor[-1].weight, 0.01)

    def policy(self, observations: Tensor, masks: Tensor) -> Categorical:
        """Return the distribution over actions, shape (B, actions)."""
        return Categorical(logits=self.actor(observations).masked_fill(~masks, -1e9))

    def act(self, observation: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> int:
        """Return the best action for one observation."""
        with torch.no_grad():
            return int(self.policy(torch.from_numpy(observation), torch.from_numpy(mask)).probs.argmax())


def train(options: dict[str, Any], seed: int, seconds: float, steps: int, stop_at: float = 1.1, count: int = 16) -> tuple[Agent, int]:
    """Return an agent and the steps it was trained for.

    Args:
        options: Keywords of ``gym.make``.
        seed: Of network, exploration and environments.
        seconds: Of processor time, at most.
        steps: Steps, at most.
        stop_at: Success over the last 200 episodes at which training stops.
        count: Environments.
    """
    torch.manual_seed(seed)
    same_step = gym.vector.AutoresetMode.SAME_STEP
    envs = gym.make_vec("steptool_env:StepToolDiscrete-v0", count, vectorization_mode="sync", vector_kwargs={"autoreset_mode": same_step}, **options)
    agent = Agent(envs.single_observation_space.shape[0], envs.single_action_space.n)  # type: ignore[index,attr-defined]
    optimizer = torch.optim.Adam(agent.parameters(), lr=RATE, eps=1e-5)
    start, played, successes = time.process_time(), 0, deque[float](maxlen=200)
    observation, info = envs.reset(seed=seed)
    while played < steps and time.process_time() - start < seconds and not (len(successes) == 200 and np.mean(successes) >= stop_at):
        batch: dict[str, list[Tensor]] = {name: [] for name in ("observations", "masks", "actions", "logs", "rewards", "over", "values")}
        for _ in range(STEPS):
            seen, mask = torch.from_numpy(observation.copy()), torch.from_numpy(info["action_mask"].astype(bool))
            with torch.no_grad():
                policy, value = agent.policy(seen, mask), agent.critic(seen).squeeze(-1)
            action = policy.sample()
            observation, reward, terminated, truncated, info = envs.step(action.numpy())
            over = terminated | truncated  # a truncated episode is over, too: the budget is part of the task
            if over.any():
                successes.extend(info["final_info"]["success"][over])
            taken = (seen, mask, action, policy.log_prob(action), torch.from_numpy(reward).float(), torch.from_numpy(over).float(), value)
            for column, entry in zip(batch.values(), taken, strict=True):
                column.append(entry)
        played += STEPS * count
        with torch.no_grad():
            following = agent.critic(torch.from_numpy(observation)).squeeze(-1)
        _improve(agent, optimizer, {name: torch.stack(column) for name, column in batch.items()}, following)
    envs.close()
    return agent, played


def _improve(agent: Agent, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], following: Tensor) -> None:
    advantages, running = torch.zeros_like(batch["rewards"]), torch.zeros_like(following)
    for step in reversed(range(STEPS)):
        goes_on = 1 - batch["over"][step]
        surprise = batch["rewards"][step] + GAMMA * following * goes_on - batch["values"][step]
        running = surprise + GAMMA * LAMBDA * goes_on * running
        advantages[step], following = running, batch["values"][step]
    flat = {name: column.flatten(0, 1) for name, column in {**batch, "advantages": advantages, "returns": advantages + batch["values"]}.items()}
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(flat["actions"])).split(MINIBATCH):
            part = {name: column[chosen] for name, column in flat.items()}
            policy = agent.policy(part["observations"], part["masks"])
            ratio = (policy.log_prob(part["actions"]) - part["logs"]).exp()
            gain = (part["advantages"] - part["advantages"].mean()) / (part["advantages"].std() + 1e-8)
            surrogate = torch.min(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain).mean()
            value = (agent.critic(part["observations"]).squeeze(-1) - part["returns"]).square().mean()
            loss = -surrogate + 0.5 * value - ENTROPY * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
