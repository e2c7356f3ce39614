"""Agents of stable-baselines3. The short tests see that everything runs; the slow ones that it learns."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

import torch
from stable_baselines3.common.logger import Logger
from toy import Counting

from steptool_agents.interop.sb3 import SB3_ALGORITHMS, STOCK_ALGORITHMS, RowScorer, SuccessCallback, evaluate, make_envs, make_model
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.wrappers.discrete import FEATURES

CHAINS: dict[str, Any] = {"observation": "rows", "domains": ("shop", "travel", "clinic"), "families": ("lookup", "change")}
"""Rows, and the tasks of ``worlds`` whose calls take one value each."""

# Matplotlib's and pandas' own business, on import by stable-baselines3.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib", "ignore::DeprecationWarning:pandas")


@pytest.mark.parametrize("algorithm", SB3_ALGORITHMS)
def test_every_algorithm_trains_logs_and_is_evaluated(algorithm: str) -> None:
    envs = make_envs(2, seed=0, level=1, **CHAINS)
    small: dict[str, Any] = {"learning_starts": 50} if algorithm == "dqn" else {"n_steps": 32}
    if "ppo" in algorithm:
        small["batch_size"] = 32
    model = make_model(algorithm, envs, seed=0, **small)
    before = {name: weights.clone() for name, weights in model.policy.state_dict().items()}
    callback = SuccessCallback(window=20)
    logged: dict[str, Any] = {}

    class Watch(Logger):
        def record(self, key: str, value: Any, exclude: Any = None) -> None:
            logged[key] = value

    model.set_logger(Watch(None, []))
    model.learn(200, callback=callback)
    assert any(not torch.equal(weights, before[name]) for name, weights in model.policy.state_dict().items())
    assert {"steptool/success", "steptool/sc", "steptool/con", "steptool/solved"} <= set(logged)
    assert len(callback.successes) > 5
    assert logged["steptool/solved"] == pytest.approx(callback.success)
    figures = evaluate(model, episodes=5, level=1, **CHAINS, split="test")
    assert set(figures) == {"success", "return", "steps"}
    assert 1 <= figures["steps"] <= 6


@pytest.mark.parametrize("algorithm", STOCK_ALGORITHMS)
def test_stock_policies_train_on_the_environment_as_it_is(algorithm: str) -> None:
    model = make_model(algorithm, make_envs(2, seed=0), seed=0, n_steps=32)
    assert type(model.policy).__module__.startswith(("stable_baselines3", "sb3_contrib"))
    model.learn(64)
    assert 1 <= evaluate(model, episodes=5, split="test")["steps"] <= 6


def test_what_rllib_asks_of_an_environment_for_its_default_network() -> None:
    """Ray is not among the test dependencies: a flat Box of floats, a Discrete, and a reset and step that keep to them."""
    env = gym.make("StepToolDiscrete-v0")
    assert isinstance(env.observation_space, gym.spaces.Box)
    assert env.observation_space.dtype == np.float32
    assert len(env.observation_space.shape) == 1
    assert isinstance(env.action_space, gym.spaces.Discrete)
    assert env.action_space.start == 0


def test_dqn_and_a2c_are_for_rows() -> None:
    with pytest.raises(InvalidArgument, match="pass observation='rows'"):
        make_model("dqn", make_envs(1))


def test_the_same_seed_trains_the_same_model() -> None:
    def weights() -> list[float]:
        model = make_model("maskable-ppo", make_envs(2, seed=3, level=1, **CHAINS), seed=3, n_steps=32, batch_size=32)
        model.learn(64)
        return [float(parameter.detach().sum()) for parameter in model.policy.parameters()]

    assert weights() == weights()


def test_the_scores_of_a_row_do_not_depend_on_its_place() -> None:
    torch.manual_seed(0)
    scorer = RowScorer(6)
    rows = torch.randn(2, 6, len(FEATURES))
    turned = rows.roll(1, 1)
    torch.testing.assert_close(scorer(turned.flatten(1))[0], scorer(rows.flatten(1))[0].roll(1, 1))
    torch.testing.assert_close(scorer(turned.flatten(1))[1], scorer(rows.flatten(1))[1])


def test_training_stops_at_the_success_that_was_asked_for() -> None:
    model = make_model("maskable-ppo", make_envs(2, seed=0, suite=Counting()), seed=0, n_steps=16, batch_size=32)
    callback = SuccessCallback(window=2, stop_at=0.0)
    model.learn(10_000, callback=callback)
    assert model.num_timesteps < 1000


def test_wrong_arguments_raise() -> None:
    envs = make_envs(1, level=1, **CHAINS)
    with pytest.raises(UnknownName, match="Did you mean 'maskable-ppo'"):
        make_model("maskable_ppo", envs)
    with pytest.raises(InvalidArgument, match="spaces of StepToolDiscrete-v0"):
        make_model("ppo", gym.make("CartPole-v1"))


@pytest.mark.slow
def test_maskable_ppo_learns_level_1_and_carries_over_to_held_out_tasks() -> None:
    options: dict[str, Any] = {"suite": "worlds", "level": 1, **CHAINS}
    model = make_model("maskable-ppo", make_envs(8, seed=0, **options), seed=0)
    model.learn(40_000, callback=SuccessCallback(window=100, stop_at=0.93))
    assert evaluate(model, episodes=150, split="test", **options)["success"] >= 0.9


def test_dqn_takes_nothing_but_calls() -> None:
    """Without masks, a greedy policy that prefers what is no call takes it until the budget is used up."""
    envs = make_envs(2, seed=0, level=1, **CHAINS)
    model = make_model("dqn", envs, seed=0, learning_starts=10)
    observation = envs.reset()
    for exploring in (True, False):
        model.exploration_rate = float(exploring)  # type: ignore[attr-defined]
        for _ in range(20):
            actions, _ = model.predict(observation, deterministic=not exploring)
            assert all(mask[action] for mask, action in zip(envs.env_method("action_masks"), actions, strict=True))
            observation, *_ = envs.step(actions)
    model.learn(100)
    taken = model.replay_buffer.actions[: model.replay_buffer.pos, :, 0]  # type: ignore[attr-defined]
    rows = model.replay_buffer.observations[: model.replay_buffer.pos].reshape(*taken.shape, -1, len(FEATURES))  # type: ignore[attr-defined]
    assert np.take_along_axis(rows[..., 0], taken[..., None], -1).all()


def test_evaluation_takes_the_catalog_of_the_training() -> None:
    model = make_model("ppo", make_envs(1, level=1, forms=9, values=8, **CHAINS), seed=0)
    assert evaluate(model, episodes=2, level=1, values=8, **CHAINS)["steps"] >= 1


def test_dqn_explores_where_nothing_is_a_call() -> None:
    model = make_model("dqn", make_envs(1, level=1, **CHAINS), seed=0)
    model.exploration_rate = 1.0  # type: ignore[attr-defined]
    blank = np.zeros(model.observation_space.shape, np.float32)
    assert {int(model.predict(blank)[0]) for _ in range(50)} <= set(range(96))
