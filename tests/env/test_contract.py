"""The contract, everywhere: every id, suite, shaper and call format through Gymnasium's checker and our own, warnings as errors."""

from __future__ import annotations

import random
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from toy import Counter, Counting, add

from steptool_env import FORMATS, SHAPERS, SUITES, Episode, Malformed, Outcome, Task, ToolCall, Toolkit, make_format, make_suite, tool
from steptool_env.errors import MissingExtra
from steptool_env.testing import ContractError, check_env, check_format, check_shaper, check_suite, check_toolkit

IDS = [name for name in gym.registry if name.startswith("StepTool")]
FORMS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in IDS if name != "StepToolText-v0"),
    *(("StepToolText-v0", {"call_format": name}) for name in FORMATS),
]


OF_ONE_KIND = [name for name in SUITES if name not in ("agentdojo", "tau2", "toolbench")]
"""The others are imported as well, and heavy: they pass check_suite in tests of their own."""


def skip_without_data(suite: str) -> None:
    try:
        make_suite(suite)
    except MissingExtra as fault:
        pytest.skip(str(fault))


def test_all_three_ids_are_registered_without_the_passive_checker() -> None:
    assert sorted(IDS) == ["StepTool-v0", "StepToolDiscrete-v0", "StepToolText-v0"]
    assert all(gym.spec(name).disable_env_checker for name in IDS)


@pytest.mark.parametrize(("name", "options"), FORMS, ids=[f"{name}-{'-'.join(options.values())}" for name, options in FORMS])
@pytest.mark.parametrize("shaper", [name for name in SHAPERS if name != "paper-judge"])  # that one needs an endpoint: tests/test_judge.py
@pytest.mark.parametrize("suite", OF_ONE_KIND)
def test_every_combination_keeps_the_contract(name: str, options: dict[str, Any], suite: str, shaper: str) -> None:
    skip_without_data(suite)
    try:
        env = gym.make(name, suite=suite, shaper=shaper, **options)
    except MissingExtra as fault:
        pytest.skip(str(fault))
    check_env(env, steps=20)
    env.close()


@pytest.mark.parametrize(("name", "options"), FORMS, ids=[f"{name}-{'-'.join(options.values())}" for name, options in FORMS])
def test_an_object_as_suite_keeps_the_contract(name: str, options: dict[str, Any]) -> None:
    check_env(gym.make(name, suite=Counting(turns=2), **options))


def test_stable_baselines_checks_the_discrete_id() -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    for options in ({"suite": "worlds", "level": 2}, {"suite": Counting()}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checker.check_env(gym.make("StepToolDiscrete-v0", **options))


@pytest.mark.parametrize("name", IDS)
def test_a_stack_of_wrappers_is_rebuilt_from_its_spec(name: str) -> None:
    env: gym.Env[Any, Any] = gym.make(name, suite="worlds", level=2, max_steps=7, max_episode_steps=5)
    env = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.TransformReward(env, abs))
    assert env.spec is not None
    again = gym.make(env.spec)
    assert str(again) == str(env)
    assert data_equivalence(again.reset(seed=3)[0], env.reset(seed=3)[0])
    plain = gym.wrappers.RecordEpisodeStatistics(gym.make(name, suite="worlds", level=2))
    assert plain.spec is not None
    third = gym.make(EnvSpec.from_json(plain.spec.to_json()))
    assert str(third) == str(plain)


# ---------------------------------------------------------------- what the checks find
@pytest.mark.parametrize("suite", OF_ONE_KIND)
def test_the_suites_of_the_package_pass(suite: str) -> None:
    skip_without_data(suite)
    check_suite(make_suite(suite), tasks=3)


def test_good_things_pass() -> None:
    check_suite(Counting())
    check_suite(Counting(turns=2))
    check_toolkit(Toolkit([add], Counter()), calls=[ToolCall("add", {"amount": 2})])
    check_shaper("steptool", suite=Counting())
    for name in FORMATS:
        check_format(make_format(name))


class Clocked(Counting):
    """What an episode does depends on global state."""

    def toolkit(self, task: Task) -> Toolkit:
        @tool(timeout=None)
        def look() -> str:
            """Look."""
            return str(random.random())

        return Toolkit([look, *self.tools], Counter())


class Unsolvable(Counting):
    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        return [ToolCall("finish", {"answer": "?"})]


class Unpicklable(Counting):
    def toolkit(self, task: Task) -> Toolkit:
        state = Counter()
        state.secret = lambda: None  # type: ignore[attr-defined]
        return Toolkit(self.tools, state)


class Twins(Counting):
    def __getitem__(self, index: int) -> Task:
        first = super().__getitem__(index)
        return Task("twin", first.instruction, first.tools, first.max_steps, first.data)


class Endless(Counting):
    def __getitem__(self, index: int) -> Task:
        return super().__getitem__(index % self.size)


class Silent(Counting):
    def grade(self, task: Task, episode: Episode) -> Outcome:
        return Outcome(1.0 if random.random() < 2 else 0.0)


@pytest.mark.parametrize(
    ("suite", "rule"),
    [
        (Unsolvable(), "the solution must solve"),
        (Unpicklable(), "pickled"),
        (Twins(), "task ids must differ"),
        (Endless(), "IndexError"),
        (Silent(), "global random generators"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_suite_that_breaks_a_rule_is_told_which(suite: Counting, rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_suite(suite, tasks=2)


def test_an_environment_that_depends_on_global_state_is_found() -> None:
    with pytest.raises(ContractError, match=r"global random|same seed"):
        check_env(gym.make("StepTool-v0", suite=Clocked(), shaper="final"))


def test_a_shaper_with_changing_parts_is_found() -> None:
    with pytest.raises(ContractError, match="same keys"):
        check_shaper(lambda episode: {f"part {len(episode) % 2}": 0.0}, suite=Counting())


def test_a_shaper_with_a_memory_of_its_own_is_found() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ContractError, match="same seed"):
        check_shaper(lambda episode: {"noise": float(rng.random())}, suite=Counting())


def test_a_toolkit_that_raises_is_found() -> None:
    class Bad(Toolkit):
        def execute(self, call: ToolCall) -> Any:
            raise KeyError(call.name)

    with pytest.raises(ContractError, match="must never raise"):
        check_toolkit(Bad([add], Counter()))


def test_a_format_that_loses_something_is_found() -> None:
    class Lossy:
        name, stop = "lossy", ("\n",)

        def instructions(self, tools: Any) -> str:
            return ""

        def render(self, call: ToolCall) -> str:
            return call.name

        def parse(self, text: str, *, prefix: str = "", tools: Any = ()) -> ToolCall | Malformed:
            return ToolCall(text)

    with pytest.raises(ContractError, match="must equal the call"):
        check_format(Lossy())
