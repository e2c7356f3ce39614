"""The compact observation of ``StepToolDiscrete-v0``: nothing that the optimal policy needs is lost, and positions keep their meaning."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_compact import ScriptedCompact
from toy import Counting

from steptool_env import ToolCall, make_suite
from steptool_env.errors import InvalidArgument, NotSupported, UnknownName
from steptool_env.wrappers import StepToolDiscreteEnv
from steptool_env.wrappers.compact import COLUMNS, Compact, compact_features, tools_of
from steptool_env.wrappers.composed import ANSWERS
from steptool_env.wrappers.discrete import sizes_of


def make(**options: Any) -> StepToolDiscreteEnv:
    env = gym.make("StepToolDiscrete-v0", **options).unwrapped
    assert isinstance(env, StepToolDiscreteEnv)
    return env


def play(env: StepToolDiscreteEnv, policy: ScriptedCompact, task: int) -> tuple[bool, int]:
    """Return whether the task was solved, and steps more than the shortest way."""
    observation, _ = env.reset(options={"task": task})
    shortest, over, info = len(env.solution()), False, {}
    while not over:
        observation, _, terminated, truncated, info = env.step(policy.act(observation, env.action_masks()))
        over = terminated or truncated
    assert env.episode is not None
    return info["success"] == 1.0, len(env.episode) - shortest


# ---------------------------------------------------------------- nothing is lost
def test_every_step_of_the_solution_is_in_the_catalog() -> None:
    """On all eight families of level 1, with the options that ``gym.make`` has by default."""
    env = make(split="test")
    assert env.observation == "compact"
    families = set()
    for task in range(300):
        env.reset(options={"task": task})
        families.add(env.task.tags["family"])
        over, info = False, {}
        while not over:
            action = env.index(env.solution()[0])
            assert action is not None, (env.task.instruction, env.solution()[0])
            assert env.action_masks()[action]
            *_, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        assert info["success"] == 1.0
    assert len(families) == 8


@pytest.mark.parametrize("level", [1, 3])
def test_a_field_that_the_call_has_to_name_is_chosen_as_asked(level: int) -> None:
    env = make(level=level, split="test", replies="field", families=("lookup", "change"))
    for task in range(30):
        env.reset(options={"task": task})
        for call in env.solution():
            action = env.index(call)
            assert action is not None, (env.task.instruction, call)
            *_, info = env.step(action)
        assert info["success"] == 1.0


def test_a_policy_that_sees_only_the_numbers_solves_the_tasks() -> None:
    env = make(split="test")
    policy = ScriptedCompact(env.forms - 2)
    results = [play(env, policy, task) for task in range(200)]
    assert sum(solved for solved, _ in results) / len(results) >= 0.98
    assert sum(extra <= 0 for _, extra in results) / len(results) >= 0.95


# ---------------------------------------------------------------- positions
def test_there_is_a_name_for_every_number_and_a_few_hundred_of_them() -> None:
    env = make()
    assert env.observation_space.shape == (len(env.features),) == (len(set(env.features)),)
    assert len(env.features) < 700
    assert env.action_space.n == 2 * (len(COLUMNS) + len(ANSWERS)) + (env.forms - 2) * (len(COLUMNS) + 2) == 128


@pytest.mark.parametrize("level", [1, 3, 5])
def test_spaces_agree_across_splits(level: int) -> None:
    made = [make(level=level, split=split) for split in ("train", "test", "paraphrases", "domains", "compositions")]
    assert all(env.observation_space == made[0].observation_space and env.action_space == made[0].action_space for env in made)


@pytest.mark.parametrize("split", ["train", "domains", "compositions"])
@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_no_task_offers_more_tools_than_its_suite_says(level: int, split: str) -> None:
    suite = make_suite("worlds", level=level, split=split)
    assert suite.most_tools is not None
    assert max(len({*suite[index].tools} - {"finish"}) for index in range(0, 10_000, 100)) <= suite.most_tools


def test_the_same_decision_has_the_same_number_in_tasks_with_other_tools_and_values() -> None:
    """A lookup passes on the user's value, then the first value of the result, and answers with the first of the next, in whatever domain."""
    env = make(families="lookup", depth=(2, 2))
    ends, ways = 2 * (len(COLUMNS) + len(ANSWERS)), len(COLUMNS) + 2
    domains, used = set(), set()
    for task in range(40):
        env.reset(options={"task": task})
        actions = []
        for call in env.solution():
            actions.append(env.index(call))
            env.step(actions[-1])
        domains.add(env.task.tags["domain"])
        used.add(tuple(COLUMNS[action] if action < len(COLUMNS) else (*COLUMNS, "", "")[(action - ends) % ways] for action in actions))
    assert len(domains) == 8
    assert used == {("user 0", "latest result 0", "latest result 0")}


def test_masks_and_numbers_say_the_same() -> None:
    env = make()
    observation, info = env.reset(seed=0)
    rng = np.random.default_rng(0)
    places = {name: place for place, name in enumerate(env.features)}
    ways = (*COLUMNS, "no value", "next page")
    ends = 2 * (len(COLUMNS) + len(ANSWERS))
    for _ in range(100):
        mask = env.action_masks()
        assert np.array_equal(mask, info["action_mask"].astype(bool))
        for tool in range(env.forms - 2):
            for number, way in enumerate(ways):
                assert (observation[places[f"tool {tool}, {way}: call"]] != 0) == mask[ends + tool * len(ways) + number]
        observation, _, terminated, truncated, info = env.step(int(rng.choice(np.flatnonzero(mask))))
        if terminated or truncated:
            observation, info = env.reset()


def test_what_was_tried_is_marked() -> None:
    env = make(families="lookup", depth=(2, 2))
    env.reset(options={"task": 0})
    place = env.features.index("tool 0, user 0: call")
    action = 2 * (len(COLUMNS) + len(ANSWERS)) + COLUMNS.index("user 0")
    wrong = next(number for number in range(action + 14, env.action_space.n, 14) if env.call(number) is not None)  # the same value, another tool
    observation, *_, info = env.step(wrong)
    assert info["tool_error"]
    assert observation[env.features.index(f"tool {(wrong - action) // 14}, user 0: call")] == -1.0
    assert observation[env.features.index("last call failed")] == 1.0
    observation, *_ = env.step(action)
    assert observation[place] == 0.5
    assert observation[env.features.index("last call failed")] == 0.0


# ---------------------------------------------------------------- in bounds, deterministic, whatever comes
COMPACT = StepToolDiscreteEnv("worlds", level=2)


@given(actions=st.lists(st.integers(-1, 200), max_size=8), task=st.integers(0, 500))
@settings(max_examples=30, deadline=None)
def test_observations_are_in_bounds_and_the_same_again(actions: list[int], task: int) -> None:
    def episode() -> list[Any]:
        seen = [COMPACT.reset(options={"task": task})[0]]
        for action in actions:
            observation, _, terminated, truncated, _ = COMPACT.step(action)
            seen.append(observation)
            if terminated or truncated:
                break
        return seen

    seen = episode()
    assert all(COMPACT.observation_space.contains(observation) for observation in seen)
    assert data_equivalence(seen, episode())


def test_checkers_pass() -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(make())
        check_env(make(), skip_render_check=True)


def test_copies_go_on_the_same() -> None:
    env = make(level=2)
    env.reset(seed=1)
    env.step(env.index(env.solution()[0]))
    saved, twin = env.snapshot(), env.fork()
    assert np.array_equal(twin.action_masks(), env.action_masks())

    def go_on(one: StepToolDiscreteEnv) -> list[Any]:
        return [one.step(int(np.flatnonzero(one.action_masks())[place])) for place in (-1, -2)]

    expected = go_on(env)
    assert data_equivalence(go_on(twin), expected)
    env.restore(pickle.loads(pickle.dumps(saved)))
    assert data_equivalence(go_on(env), expected)


# ---------------------------------------------------------------- arguments
def test_wrong_arguments_raise() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'compact'"):
        make(observation="compakt")
    with pytest.raises(InvalidArgument, match="values is for observation='rows'"):
        make(values=16)
    with pytest.raises(InvalidArgument, match="forms must be an integer of at least 2"):
        make(forms=1)
    with pytest.raises(NotSupported, match="pass observation='rows'"):
        make().rows(np.zeros(3, np.float32))
    with pytest.raises(InvalidArgument, match="pass forms="):
        make(forms=3).reset(seed=0)


@pytest.mark.parametrize("options", [{}, {"level": 3}, {"observation": "rows"}, {"observation": "rows", "values": 8}])
def test_sizes_of_spaces(options: dict[str, Any]) -> None:
    env = make(**options)
    sizes = sizes_of(env.action_space, env.observation_space, options.get("values", 16))
    assert sizes == {"observation": env.observation, "forms": env.forms}


def test_spaces_of_something_else_raise() -> None:
    env = gym.make("CartPole-v1")
    with pytest.raises(InvalidArgument, match="spaces of StepToolDiscrete-v0"):
        sizes_of(env.action_space, env.observation_space)
    assert tools_of(2) is None
    assert tools_of(29) is None
    assert tools_of(30) == 0


def test_an_action_that_is_no_call_says_why() -> None:
    env = make()
    env.reset(seed=0)
    *_, info = env.step(ANSWERS.index("listed") + len(COLUMNS))
    assert info["tool_error"] == "malformed"
    assert env.episode is not None
    assert "there is no answer in 'listed'" in env.episode.messages[-1].content
    env.step(env.action_space.n - 1)
    assert "takes nothing of 'next page'" in env.episode.messages[-1].content


def test_a_suite_with_other_tools_and_several_turns_is_played() -> None:
    env = make(suite=Counting(turns=2))
    env.reset(options={"task": 1})
    for call in (ToolCall("add", {"amount": 4}), ToolCall("finish", {"answer": "4"})):
        action = env.index(call)
        assert action is not None
        *_, terminated, _, _ = env.step(action)
    assert not terminated
    assert len(compact_features(env.forms - 2)) == Compact(env.forms - 2).size == env.observation_space.shape[0]
