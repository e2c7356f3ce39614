"""Vector environments: nothing that ends an episode is lost or mixed up, and the seed alone decides what happens."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from project import ROOT
from toy import Counting

IDS = ["StepTool-v0", "StepToolText-v0", "StepToolDiscrete-v0"]
SYNC: dict[str, Any] = {"vectorization_mode": "sync"}
ASYNC: dict[str, Any] = {"vectorization_mode": "async"}


def vector(name: str, count: int, how: dict[str, Any], mode: AutoresetMode, **options: Any) -> gym.vector.VectorEnv[Any, Any, Any]:
    further: dict[str, Any] = {"autoreset_mode": mode}
    if how is ASYNC:
        further["shared_memory"] = False
    return gym.make_vec(name, num_envs=count, vector_kwargs=further, **how, **options)


def actions_for(name: str, generators: list[random.Random]) -> Any:
    """Return one action for each environment; each is drawn from a generator of its own."""
    if name == "StepToolDiscrete-v0":
        return np.array([rng.randrange(80) for rng in generators])
    words = ["get_order", "get_trip", "get_visit", "finish", "nothing"]
    calls = []
    for rng in generators:
        word = rng.choice(words)
        arguments = {"answer": "7"} if word == "finish" else {word.removeprefix("get_") + "_id": rng.choice("OTB") + str(rng.randrange(10, 100))}
        calls.append((word, arguments))
    if name == "StepToolText-v0":
        return tuple(f'<tool_call>{{"name": "{word}", "arguments": {str(arguments).replace(chr(39), chr(34))}}}</tool_call>' for word, arguments in calls)
    return tuple({"name": word, "arguments": arguments} for word, arguments in calls)


def pick(batch: Any, number: int) -> Any:
    """Return what one environment observed, from a batch of any of the three ids."""
    if isinstance(batch, dict):
        return {key: pick(value, number) for key, value in batch.items()}
    return batch[number].tolist() if isinstance(batch, np.ndarray) and isinstance(batch[number], np.ndarray) else batch[number]


def plain(observation: Any) -> Any:
    return observation.tolist() if isinstance(observation, np.ndarray) else observation


def alone(name: str, seed: int, steps: int, **options: Any) -> list[Any]:
    """Play one environment; return for each step (observation, reward, terminated, truncated, success, parts) and each reset."""
    env = gym.make(name, **options)
    rng = random.Random(seed)
    observation, info = env.reset(seed=seed)
    record: list[Any] = [("reset", plain(observation), info["task_id"])]
    over = False
    for _ in range(steps):
        action = actions_for(name, [rng])[0]
        if over:
            observation, info = env.reset()
            record.append(("reset", plain(observation), info["task_id"]))
            over = False
            continue
        observation, reward, terminated, truncated, info = env.step(action)
        record.append((plain(observation), reward, terminated, truncated, info["success"], info["task_id"], info["reward_parts"]))
        over = terminated or truncated
    env.close()
    return record


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
def test_next_step_gives_every_environment_what_it_gets_alone(name: str, how: dict[str, Any]) -> None:
    options = {"suite": "worlds", "level": 1}
    steps, seeds = 25, [11, 12, 13]
    envs = vector(name, 3, how, AutoresetMode.NEXT_STEP, **options)
    generators = [random.Random(seed) for seed in seeds]
    batch, infos = envs.reset(seed=seeds)
    records: list[list[Any]] = [[("reset", pick(batch, number), infos["task_id"][number])] for number in range(3)]
    over = np.zeros(3, bool)
    for _ in range(steps):
        batch, rewards, terminated, truncated, infos = envs.step(actions_for(name, generators))
        for number in range(3):
            if over[number]:
                assert rewards[number] == 0.0
                records[number].append(("reset", pick(batch, number), infos["task_id"][number]))
            else:
                parts = {key: float(values[number]) for key, values in infos["reward_parts"].items() if not key.startswith("_")}
                end = (bool(terminated[number]), bool(truncated[number]), float(infos["success"][number]), infos["task_id"][number], parts)
                records[number].append((pick(batch, number), float(rewards[number]), *end))
        over = terminated | truncated
    envs.close()
    for number, seed in enumerate(seeds):
        assert records[number] == alone(name, seed, steps, **options)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
def test_same_step_keeps_the_last_observation_and_the_last_info(name: str, how: dict[str, Any]) -> None:
    """FIELD.md: a peer's environment returns the next episode's first observation and info; what ended the episode is lost."""
    envs = vector(name, 2, how, AutoresetMode.SAME_STEP, suite="worlds", level=1)
    single = [gym.make(name, suite="worlds", level=1) for _ in range(2)]
    generators = [random.Random(seed) for seed in (5, 6)]
    envs.reset(seed=[5, 6])
    for number, env in enumerate(single):
        env.reset(seed=5 + number)
    ended = 0
    for _ in range(25):
        actions = actions_for(name, generators)
        batch, rewards, terminated, truncated, infos = envs.step(actions)
        for number, env in enumerate(single):
            observation, reward, *over, info = env.step(actions[number])
            assert float(rewards[number]) == reward
            assert [terminated[number], truncated[number]] == over
            if any(over):
                ended += 1
                assert plain(infos["final_obs"][number]) == plain(observation)
                final = infos["final_info"]
                assert final["task_id"][number] == info["task_id"]
                assert final["success"][number] == info["success"]
                assert {key: values[number] for key, values in final["reward_parts"].items() if not key.startswith("_")} == info["reward_parts"]
                observation, info = env.reset()
                assert infos["task_id"][number] == info["task_id"]
            assert pick(batch, number) == plain(observation)
    envs.close()
    assert ended >= 4


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
def test_disabled_resets_only_what_it_is_told(name: str, how: dict[str, Any]) -> None:
    envs = vector(name, 2, how, AutoresetMode.DISABLED, suite=Counting(max_steps=3))
    envs.reset(seed=[1, 2])
    wrong = {"StepTool-v0": (None, None), "StepToolText-v0": ("x", "x"), "StepToolDiscrete-v0": np.array([95, 95])}[name]
    for _ in range(3):
        before, _, terminated, truncated, _ = envs.step(wrong)
    assert truncated.all()
    assert not terminated.any()
    batch, _ = envs.reset(options={"reset_mask": np.array([True, False])})
    assert pick(batch, 1) == pick(before, 1)
    assert pick(batch, 0) != pick(before, 0)
    envs.close()


@pytest.mark.parametrize("name", ["StepTool-v0", "StepToolText-v0"])
def test_shared_memory_cannot_serve_text_and_says_what_to_do(name: str) -> None:
    with pytest.raises(ValueError, match=r"'shared_memory': False"):
        gym.make_vec(name, num_envs=2, vectorization_mode="async")


def test_shared_memory_serves_numbers() -> None:
    envs = gym.make_vec("StepToolDiscrete-v0", num_envs=2, vectorization_mode="async")
    single = gym.make("StepToolDiscrete-v0")
    first, _ = envs.reset(seed=[3, 4])
    assert np.array_equal(first[1], single.reset(seed=4)[0])
    batch, *_ = envs.step(np.array([15, 31]))
    assert np.array_equal(batch[1], single.step(31)[0])
    assert not np.array_equal(batch[1], first[1])
    envs.close()


# ---------------------------------------------------------------- determinism
def digest(name: str, seed: int) -> str:
    return hashlib.blake2b(repr(alone(name, seed, 20, suite="worlds", level=2)).encode(), digest_size=8).hexdigest()


@pytest.mark.slow
def test_an_episode_is_the_same_in_every_process_and_for_every_hash_seed() -> None:
    folders = [str(ROOT), str(ROOT / "tests" / "env"), str(ROOT / "tests" / "helpers")]
    program = f"import sys; sys.path[:0] = {folders!r}; import test_vector as t; print([t.digest(name, 9) for name in t.IDS])"
    found = set()
    for hash_seed in ("0", "1", "4711"):
        done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True)
        found.add(done.stdout.strip())
    assert found == {str([digest(name, 9) for name in IDS])}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
def test_neither_the_number_of_environments_nor_their_order_changes_an_episode(name: str, how: dict[str, Any]) -> None:
    """The first episode of every seed, observation by observation, whoever plays beside it."""
    found: dict[int, set[str]] = {}
    for seeds in ([3], [4, 3], [5, 3, 4]):
        envs = vector(name, len(seeds), how, AutoresetMode.NEXT_STEP, suite="worlds", level=1)
        generators = [random.Random(seed) for seed in seeds]
        batch, _ = envs.reset(seed=seeds)
        seen: list[list[Any]] = [[pick(batch, number)] for number in range(len(seeds))]
        over = np.zeros(len(seeds), bool)
        while not over.all():
            batch, rewards, terminated, truncated, infos = envs.step(actions_for(name, generators))
            for number in np.flatnonzero(~over):
                seen[number].append((pick(batch, number), float(rewards[number]), bool(terminated[number]), str(infos["task_id"][number])))
            over |= terminated | truncated
        envs.close()
        for seed, episode in zip(seeds, seen, strict=True):
            found.setdefault(seed, set()).add(hashlib.sha256(repr(episode).encode()).hexdigest())
    assert [len(hashes) for hashes in found.values()] == [1, 1, 1]
    assert len(set.union(*found.values())) == 3


@pytest.mark.parametrize("name", IDS)
def test_neighbors_and_global_seeds_change_nothing(name: str) -> None:
    """FIELD.md: a peer's reset seeds the generators of the whole process, so that a neighbor's reset changes an episode."""
    expected = alone(name, 4, 15, suite="worlds", level=2)
    random.seed(1)
    np.random.seed(1)
    python, numpy = random.getstate(), np.random.get_state()[1].tolist()
    neighbor = gym.make(name, suite="worlds", level=2)
    neighbor.reset(seed=1)
    assert alone(name, 4, 15, suite="worlds", level=2) == expected
    neighbor.reset(seed=99)
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy
