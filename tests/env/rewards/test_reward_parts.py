"""The parts of a reward sum to the reward, wherever it comes from: suites, vector environments, relabelling, resumed runs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Counting

from steptool_agents.policies.base import OraclePolicy, RandomPolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.trajectory import Trajectory, in_hindsight, read_jsonl, relabel, write_jsonl
from steptool_env import SHAPERS, RewardShaper, StepToolEnv, TaskSuite, make_shaper, make_suite
from steptool_env.errors import MissingExtra
from steptool_env.rewards import Clip, Gate, Normalize, Schedule, WeightedSum
from steptool_env.scripted import NoisyOracle

CHEAP = sorted(set(SHAPERS) - {"monte-carlo", "paper-judge"})


@functools.cache
def suite(name: str) -> TaskSuite:
    if name == "counting":
        return Counting()
    try:
        return make_suite(name, **({"level": 2} if name == "worlds" else {"split": "all"}))
    except MissingExtra as missing:
        pytest.skip(str(missing))


shapers = st.recursive(
    st.sampled_from(CHEAP).map(make_shaper),
    lambda inner: st.one_of(
        st.lists(st.tuples(st.floats(-3, 3), inner), min_size=1, max_size=3).map(lambda terms: WeightedSum(*terms)),
        inner.map(lambda one: Schedule(one, (1.0, 0.0))),
        inner.map(lambda one: Normalize(one)),
        inner.map(lambda one: Gate(one, lambda past: len(past) % 2 == 0)),
        inner.map(lambda one: Gate(one, lambda past: past[-1].outcome is not None and past[-1].outcome.solved == 1.0, whole=True)),
    ),
    max_leaves=4,
)
"""Every shaper, alone and within others."""


def check(trajectory: Trajectory) -> None:
    keys = {tuple(step.parts) for step in trajectory.steps}
    assert len(keys) == 1
    for step in trajectory.steps:
        assert np.isfinite(step.reward)
        assert sum(step.parts.values()) == pytest.approx(step.reward, abs=1e-9)
    assert trajectory.rewards.tolist() == [step.reward for step in trajectory.steps]


@pytest.mark.parametrize("name", ["counting", "worlds", "bfcl"])
@given(shaper=shapers, clip=st.booleans(), noise=st.sampled_from((0.0, 0.3, 1.0)), task=st.integers(0, 9), seed=st.integers(0, 9))
@settings(max_examples=40)
def test_every_step_of_every_suite(name: str, shaper: RewardShaper, clip: bool, noise: float, task: int, seed: int) -> None:
    env = StepToolEnv(suite(name), Clip(shaper, -0.5, 0.5) if clip else shaper, max_steps=8)
    env.reset(options={"task": task})
    policy, rng, keys, ended = NoisyOracle(noise), np.random.default_rng(seed), None, False
    while not ended:
        _, reward, terminated, truncated, info = env.step(policy(env, rng))
        ended = terminated or truncated
        assert sum(info["reward_parts"].values()) == pytest.approx(reward, abs=1e-9)
        assert keys in (None, list(info["reward_parts"]))
        keys = list(info["reward_parts"])
    if truncated:
        _, reward, *_, info = env.step({"name": "finish", "arguments": {"answer": ""}})
        assert (reward, set(info["reward_parts"].values())) == (0.0, {0.0})
        assert list(info["reward_parts"]) == keys


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments(mode: str) -> None:
    for name in ("steptool", "repetition", "potential") if mode == "sync" else ("repetition",):
        how = {"vectorization_mode": mode, "vector_kwargs": {"shared_memory": False} if mode == "async" else {}}  # texts have no fixed size
        envs = gym.make_vec("StepTool-v0", num_envs=3, **how, suite="worlds", level=1, shaper=name)
        single = StepToolEnv("worlds", level=1)
        single.reset(seed=0)
        single.action_space.seed(0)
        envs.reset(seed=0)
        seen = 0
        for _ in range(30):
            actions = tuple(single.action_space.sample() for _ in range(3))
            _, rewards, _, _, infos = envs.step(actions)
            parts = infos.get("reward_parts")
            if parts is None:  # every environment was reset
                continue
            values = [array for part, array in parts.items() if not part.startswith("_")]
            np.testing.assert_allclose(np.sum(values, axis=0), rewards, atol=1e-9)
            seen += 1
        assert seen > 10
        envs.close()


@given(first=shapers, second=shapers, seed=st.integers(0, 5))
@settings(max_examples=40)
def test_relabelled_trajectories(first: RewardShaper, second: RewardShaper, seed: int) -> None:
    envs = [StepToolEnv(suite("counting"), first, max_steps=6) for _ in range(2)]
    for trajectory in rollout(RandomPolicy(seed), envs, [0, 1, 2]):
        check(trajectory)
        other = relabel(trajectory, second)
        check(other)
        assert [one.transition for one in other.steps] == [one.transition for one in trajectory.steps]


@pytest.mark.parametrize("name", [*CHEAP, "monte-carlo"])
def test_relabelling_agrees_with_the_environment_and_survives_a_file(name: str, tmp_path: Path) -> None:
    """Rewards of a stored rollout under another shaper are those that the shaper would have paid: no new rollout is needed."""
    options = {"rollouts": 2} if name == "monte-carlo" else {}
    tasks = suite("worlds")
    plain = rollout(OraclePolicy(), [StepToolEnv(tasks, "final")], [3, 4])
    write_jsonl(tmp_path / "t.jsonl", plain)
    env = StepToolEnv(tasks, make_shaper(name, **options))
    paid = in_hindsight(rollout(OraclePolicy(), [env], [3, 4]), env.shaper)
    for stored, fresh in zip(read_jsonl(tmp_path / "t.jsonl"), paid, strict=True):
        again = relabel(stored, env.shaper)
        assert [dict(step.parts) for step in again.steps] == [dict(step.parts) for step in fresh.steps]
        check(again)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shaper", "options"),
    [("steptool", {}), ("monte-carlo", {"rollouts": 1}), ("rewards_of_ones_own:make", {})],
)
def test_resumed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shaper: str, options: dict[str, Any]) -> None:
    """A run that was resumed pays, learns and measures as one that was not, also with a shaper that keeps statistics."""
    pytest.importorskip("torch")
    from steptool_agents.algorithms.step_ppo import train
    from steptool_agents.config import Config
    from steptool_agents.runs.trackers import read_metrics

    (tmp_path / "rewards_of_ones_own.py").write_text(
        "from steptool_env.rewards import *\n"
        "def make(): return Normalize(WeightedSum(Final(), Schedule(Hindsight(), (1.0, 0.0)), Schedule(StepCost(0.1), (0.0, 1.0))))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    small = {"suite_options": {"level": 1}, "demos": 8, "demo_batch": 4, "episodes": 4, "eval_episodes": 4, "eval_width": 3, "max_new_tokens": 12}
    config = Config.from_dict({**small, "max_steps": 3, "seed": 5, "updates": 2, "gamma": 0.9, "shaper": shaper, "shaper_options": options})
    train(config, tmp_path / "whole")
    from steptool_agents.algorithms import step_ppo

    improve, calls = step_ppo.improve, []

    def killed(*arguments: Any) -> Any:
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return improve(*arguments)

    monkeypatch.setattr(step_ppo, "improve", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "resumed")
    monkeypatch.setattr(step_ppo, "improve", improve)
    train(config, tmp_path / "resumed", resume=True)
    speeds = ("seconds", "tokens_per_second")
    whole, resumed = ([{k: v for k, v in line.items() if not k.startswith(speeds)} for line in read_metrics(tmp_path / run)] for run in ("whole", "resumed"))
    assert whole == resumed
    for line in resumed:
        parts = [value for name, value in line.items() if name.startswith("reward/")]
        assert parts
        assert sum(parts) == pytest.approx(line["reward"], abs=1e-6)
    trajectories = read_jsonl(tmp_path / "resumed" / "trajectories.jsonl")
    for trajectory in trajectories:
        check(trajectory)
    report = json.loads((tmp_path / "resumed" / "report.json").read_text(encoding="utf-8"))
    assert report["after"]["reward"] == pytest.approx(np.mean([sum(one.rewards) for one in trajectories]))
