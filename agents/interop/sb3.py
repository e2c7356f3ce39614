"""Agents of stable-baselines3 on ``StepToolDiscrete-v0``: settings for the stock ones, policies over rows, a callback, and evaluation.

The compact observation is made for the stock ``MlpPolicy``. The other one has a row of features for each action
(``observation="rows"``): the policies here score all rows with one small network, so what it learns for one tool and value
carries over to others.

    model = make_model("maskable-ppo", make_envs(16, seed=0, level=1), seed=0)
    model.learn(100_000, callback=SuccessCallback(stop_at=0.95))
    print(evaluate(model, split="test", level=1))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from steptool_env.errors import InvalidArgument, UnknownName, missing_extra
from steptool_env.wrappers.discrete import FEATURES, sizes_of

try:
    import torch
    from sb3_contrib import MaskablePPO
    from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
    from stable_baselines3 import A2C, DQN, PPO
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
    from torch import Tensor, nn
except ImportError as fault:
    raise missing_extra("playing with stable-baselines3", fault, "sb3") from fault

__all__ = [
    *("SB3_ALGORITHMS", "STOCK_ALGORITHMS", "RowDQN", "RowMaskablePolicy", "RowPolicy", "RowQPolicy", "RowScorer"),
    *("SuccessCallback", "evaluate", "make_envs", "make_model"),
]

_HIDDEN = 64
_WIDTH, _VALID = len(FEATURES), FEATURES.index("valid")
_INVALID_SCORE = -100.0
"""Score of an action that is not a valid call; below the value of every valid one."""


class RowScorer(nn.Module):
    """Scores every action from its row of features, and the state from all rows together.

    ``forward``: (B, n * F) -> (scores (B, n), pooled features (B, 2 * hidden)).
    """

    def __init__(self, actions: int, hidden: int = _HIDDEN) -> None:
        super().__init__()
        self.actions = actions
        self.latent_dim_pi, self.latent_dim_vf = actions, 2 * hidden
        self.rows = nn.Sequential(nn.Linear(_WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.score = nn.Linear(hidden, 1)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self._encode(observation)
        return self._scores(encoded), self._pooled(encoded)

    def forward_actor(self, observation: Tensor) -> Tensor:
        """Return the scores, shape (B, n)."""
        return self._scores(self._encode(observation))

    def forward_critic(self, observation: Tensor) -> Tensor:
        """Return mean and maximum of the encoded rows, shape (B, 2 * hidden)."""
        return self._pooled(self._encode(observation))

    def _scores(self, encoded: Tensor) -> Tensor:
        return torch.as_tensor(self.score(encoded)).squeeze(-1)

    def _pooled(self, encoded: Tensor) -> Tensor:
        return torch.cat([encoded.mean(1), encoded.amax(1)], -1)

    def _encode(self, observation: Tensor) -> Tensor:
        return torch.as_tensor(self.rows(observation.view(-1, self.actions, _WIDTH)))  # (B, n, hidden)


class _Rows:
    """Puts a ``RowScorer`` into an actor-critic policy: its scores are the logits."""

    def _build_mlp_extractor(self: Any) -> None:
        self.add_module("mlp_extractor", RowScorer(int(self.action_space.n)))

    def _build(self: Any, lr_schedule: Callable[[float], float]) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        self.add_module("action_net", nn.Identity())
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


class RowPolicy(_Rows, ActorCriticPolicy):
    """For PPO and A2C."""


class RowMaskablePolicy(_Rows, MaskableActorCriticPolicy):
    """For MaskablePPO."""


class _RowQNetwork(QNetwork):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_module("q_net", _Scores(int(self.action_space.n)))


class _Scores(RowScorer):
    def forward(self, observation: Tensor) -> Tensor:  # type: ignore[override]  # a Q-network returns nothing but scores
        calls = observation.view(-1, self.actions, _WIDTH)[..., _VALID] > 0
        return self.forward_actor(observation).masked_fill(~calls, _INVALID_SCORE)


class RowQPolicy(DQNPolicy):
    """For DQN. Actions that are not valid calls score below every valid one, in the choice of actions and in the targets."""

    def make_q_net(self) -> QNetwork:
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return _RowQNetwork(**arguments).to(self.device)


class RowDQN(DQN):
    """DQN that explores only among valid calls.

    stable-baselines3 draws from all actions, most of which are not valid calls: random episodes then rarely make progress, and
    a greedy policy that once prefers an action without effect repeats it until the step budget is used up.
    """

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Return actions as ``DQN.predict`` does, but explore only among valid calls."""
        random = self.action_space.np_random
        if not deterministic and random.random() < self.exploration_rate:
            features = np.asarray(observation).reshape(-1, int(self.action_space.n), _WIDTH)  # type: ignore[attr-defined]  # Discrete
            calls = features[..., _VALID] > 0
            calls |= ~calls.any(-1, keepdims=True)  # no valid call: all actions are equal
            chosen = np.array([random.choice(np.flatnonzero(row)) for row in calls])
            return (chosen if np.ndim(observation) > 1 else chosen[0]), state
        return super().predict(observation, state, episode_start, deterministic=True)

    def _sample_action(self, learning_starts: int, action_noise: Any = None, n_envs: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
        actions, _ = self.predict(self._last_obs, deterministic=False)  # the exploration rate starts at 1
        return actions, actions


_SHARED: dict[str, Any] = {"learning_rate": 1e-3, "gamma": 0.95}
_PPO: dict[str, Any] = {**_SHARED, "learning_rate": 2e-3, "n_steps": 64, "batch_size": 256, "n_epochs": 4, "ent_coef": 0.01}
_A2C: dict[str, Any] = {**_SHARED, "n_steps": 16, "ent_coef": 0.01, "use_rms_prop": False}
# The share of random actions falls over the first part of ``learn(total_timesteps)``: pass the number of steps that is really played.
_EXPLORING: dict[str, Any] = {"learning_starts": 1_000, "exploration_fraction": 0.4, "exploration_final_eps": 0.02}
_DQN: dict[str, Any] = {**_SHARED, **_EXPLORING, "buffer_size": 10_000, "batch_size": 64, "train_freq": 4, "gradient_steps": 4, "target_update_interval": 500}
SB3_ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], type, dict[str, Any]]] = {
    "maskable-ppo": (MaskablePPO, RowMaskablePolicy, _PPO),
    "ppo": (PPO, RowPolicy, _PPO),
    "a2c": (A2C, RowPolicy, _A2C),
    "dqn": (RowDQN, RowQPolicy, _DQN),
}
"""Name -> algorithm, policy over rows, and settings that learn ``worlds`` level 1."""

_MLP: dict[str, Any] = {**_PPO, "learning_rate": 1e-3, "policy_kwargs": {"net_arch": [256, 256], "activation_fn": nn.ReLU}}
STOCK_ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], str, dict[str, Any]]] = {
    "maskable-ppo": (MaskablePPO, "MlpPolicy", _MLP),
    "ppo": (PPO, "MlpPolicy", {**_MLP, "ent_coef": 0.05}),  # without masks, less exploration ends in giving up every task at once
}
"""The same for the compact observation: stock policies, and settings that learn ``worlds`` level 1 with 16 environments."""


def make_envs(count: int = 8, seed: int | None = None, **options: Any) -> VecEnv:
    """Return ``count`` environments ``StepToolDiscrete-v0`` in one process, as a ``VecEnv`` of stable-baselines3.

    Args:
        count: Number of environments.
        seed: Seed of the first environment; the others count up from it.
        options: Keywords of ``gym.make``: ``suite=``, ``level=``, ``shaper=`` …
    """
    return make_vec_env("steptool_env:StepToolDiscrete-v0", count, seed=seed, env_kwargs=options)


def make_model(algorithm: str, envs: VecEnv | gym.Env[Any, Any], seed: int | None = None, **settings: Any) -> BaseAlgorithm:
    """Return an algorithm of stable-baselines3: with its own ``MlpPolicy`` for the compact observation, else with a policy over rows.

    Args:
        algorithm: One of ``STOCK_ALGORITHMS`` for compact observations, one of ``SB3_ALGORITHMS`` for rows.
        envs: Environments of ``StepToolDiscrete-v0``.
        seed: Seed of the network and the exploration.
        settings: Keywords of the algorithm; they override those of the table.

    Raises:
        UnknownName: There is no such algorithm.
        InvalidArgument: The observations are not those of ``StepToolDiscrete-v0``.
    """
    if algorithm not in SB3_ALGORITHMS:
        raise UnknownName("stable-baselines3 algorithm", algorithm, SB3_ALGORITHMS)
    rows = sizes_of(envs.action_space, envs.observation_space)["observation"] == "rows"
    table: dict[str, Any] = SB3_ALGORITHMS if rows else STOCK_ALGORITHMS
    if algorithm not in table:
        raise InvalidArgument(f"{algorithm} is for rows; pass observation='rows' to make_envs, or take one of {', '.join(table)}")
    kind, policy, defaults = table[algorithm]
    chosen = {**defaults, **settings}
    if "n_steps" in chosen and "batch_size" in defaults and "batch_size" not in settings:  # few environments may collect less than a batch
        chosen["batch_size"] = min(chosen["batch_size"], chosen["n_steps"] * getattr(envs, "num_envs", 1))
    model: BaseAlgorithm = kind(policy, envs, seed=seed, device="cpu", **chosen)
    return model


class SuccessCallback(BaseCallback):
    """Logs ``steptool/success`` and the mean of each reward part per episode, over the last ``window`` episodes.

    Args:
        window: Number of episodes in the means.
        stop_at: Success of a full window at which training stops; None: never.
    """

    def __init__(self, window: int = 200, stop_at: float | None = None) -> None:
        super().__init__()
        self.stop_at = stop_at
        self.successes: deque[float] = deque(maxlen=window)
        self.parts: deque[dict[str, float]] = deque(maxlen=window)
        self._running: list[dict[str, float]] = []

    @property
    def success(self) -> float:
        """Mean success of the window; 0.0 before the first episode has ended."""
        return float(np.mean(self.successes)) if self.successes else 0.0

    def _on_training_start(self) -> None:
        self._running = [{} for _ in range(self.training_env.num_envs)]

    def _on_step(self) -> bool:
        for running, info, done in zip(self._running, self.locals["infos"], self.locals["dones"], strict=True):
            for name, value in info["reward_parts"].items():
                running[name] = running.get(name, 0.0) + value
            if done:
                if not info["masked"]:  # an infrastructure fault says nothing about the agent
                    self.successes.append(info["success"])
                    self.parts.append(dict(running))
                running.clear()
        if self.successes:
            self.logger.record("steptool/success", self.success)
            for name in self.parts[-1]:
                self.logger.record(f"steptool/{name}", float(np.mean([parts.get(name, 0.0) for parts in self.parts])))
        full = len(self.successes) == self.successes.maxlen
        return not (self.stop_at is not None and full and self.success >= self.stop_at)


def evaluate(model: BaseAlgorithm, episodes: int = 200, seed: int = 0, deterministic: bool = True, **options: Any) -> dict[str, float]:
    """Play the first tasks of a suite and return ``success``, ``return`` and ``steps``, each a mean per episode.

    Args:
        model: Any algorithm; MaskablePPO gets the action masks.
        episodes: Number of tasks, each played once.
        seed: Seed of the environment.
        deterministic: Take the best action instead of sampling.
        options: Keywords of ``gym.make``; ``split="test"`` for tasks that training never draws.
    """
    sizes = sizes_of(model.action_space, model.observation_space, options.get("values", 16))  # as in training
    env = gym.make("steptool_env:StepToolDiscrete-v0", **{**sizes, **options})
    core: Any = env.unwrapped
    successes, returns, steps = [], [], []
    for task in range(min(episodes, len(core.suite))):
        observation, _ = env.reset(seed=seed + task, options={"task": task})
        total, count, over = 0.0, 0, False
        info: dict[str, Any] = {}
        while not over:
            masks = {"action_masks": core.action_masks()} if isinstance(model, MaskablePPO) else {}
            action, _ = model.predict(observation, deterministic=deterministic, **masks)
            observation, reward, terminated, truncated, info = env.step(action)
            total, count, over = total + float(reward), count + 1, terminated or truncated
        if not info["masked"]:
            successes.append(info["success"])
            returns.append(total)
            steps.append(count)
    env.close()
    return {name: float(np.mean(values)) if values else 0.0 for name, values in (("success", successes), ("return", returns), ("steps", steps))}
