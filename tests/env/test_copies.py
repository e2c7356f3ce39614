"""Everything that an episode is made of can be pickled and copied, here and in another process, or says why it cannot."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import data_equivalence
from toy import Counter, add

from steptool_env import FINISH, FORMATS, SHAPERS, SUITES, StepToolEnv, Tool, ToolCall, Toolkit, make_format, make_shaper, make_suite, tool
from steptool_env.errors import MissingExtra, NotSupported
from steptool_env.scripted import NoisyOracle
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.tools.recording import Recorder

IDS = [name for name in gym.registry if name.startswith("StepTool")]


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def through_cloudpickle(value: Any) -> Any:
    return pickle.loads(pytest.importorskip("cloudpickle").dumps(value))


WAYS: dict[str, Callable[[Any], Any]] = {"pickle": through_pickle, "deepcopy": copy.deepcopy, "cloudpickle": through_cloudpickle}
by_way = pytest.mark.parametrize("way", WAYS)


def played(env: Any, seed: int = 0) -> Any:
    env.reset(seed=seed)
    env.action_space.seed(seed)
    while any(env.step(env.action_space.sample())[2:4]):
        env.reset()
    return env


def go_on(env: Any) -> list[Any]:
    seen: list[Any] = []
    for _ in range(12):
        answer = env.step(env.action_space.sample())
        seen.append(answer)
        if answer[2] or answer[3]:
            seen.append(env.reset())
    return seen


@by_way
@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("options", [{"suite": "worlds", "level": 5}, {"suite": "jsonl"}, {"suite": "bfcl"}], ids=lambda options: options["suite"])
def test_a_copy_of_an_environment_goes_on_in_the_same_way(name: str, options: dict[str, Any], way: str) -> None:
    try:
        env = played(gym.make(name, **options))
    except MissingExtra as fault:
        pytest.skip(str(fault))
    twin = WAYS[way](env)
    third = WAYS[way](env)
    expected = go_on(env)
    assert data_equivalence(go_on(twin), expected)  # what the first one did has not touched it
    assert data_equivalence(go_on(third), expected)
    assert data_equivalence(WAYS[way](gym.make(name, **options)).reset(seed=3), gym.make(name, **options).reset(seed=3))


@by_way
@pytest.mark.parametrize("name", [name for name in SHAPERS if name != "paper-judge"])
def test_a_shaper_is_copied_with_its_environment(name: str, way: str) -> None:
    shaper = WAYS[way](make_shaper(name))
    env = StepToolEnv("worlds", shaper, level=2)
    env.reset(seed=1)
    env.step(env.solution()[0])
    twin = WAYS[way](env)
    expected = [env.step(call)[1] for call in env.solution()]
    assert [twin.step(call)[1] for call in twin.solution()] == expected


@by_way
@pytest.mark.parametrize("name", SUITES)
def test_a_suite_and_its_toolkits_are_copied(name: str, way: str) -> None:
    try:
        suite = make_suite(name)
    except MissingExtra as fault:
        pytest.skip(str(fault))
    twin = WAYS[way](suite)
    assert (len(twin), twin[0].id, twin[len(suite) - 1].instruction) == (len(suite), suite[0].id, suite[len(suite) - 1].instruction)
    toolkit = suite.toolkit(suite[0])
    copied = WAYS[way](toolkit)
    assert copied.schemas == toolkit.schemas
    for call in (ToolCall("finish", {"answer": "x"}), ToolCall(next(iter(toolkit)), {}), ToolCall("no such tool", {})):
        assert copied.execute(call) == toolkit.execute(call)


@by_way
def test_tools_and_toolkits_are_copied(way: str, tmp_path: Path) -> None:
    assert WAYS[way](FINISH) is FINISH
    assert WAYS[way](add) is add  # a decorated function of a module is found under its name
    own = Tool("own", "Mine.", {"type": "object"}, print, timeout=3.0)
    twin = WAYS[way](own)
    assert (twin.name, twin.schema_json, twin.function, twin.timeout) == ("own", own.schema_json, print, 3.0)
    plain = Toolkit([add, own], Counter())
    for toolkit in (plain, FaultyToolkit(Toolkit([add], Counter()), rate=0.5), Recorder(Toolkit([add], Counter()), tmp_path / "calls.jsonl")):
        toolkit.execute(ToolCall("add", {"amount": 2}))
        copied = WAYS[way](toolkit)
        for _ in range(5):
            assert copied.execute(ToolCall("add", {"amount": 1})) == toolkit.execute(ToolCall("add", {"amount": 1}))


@by_way
@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_copied(name: str, way: str) -> None:
    call = ToolCall("f", {"x": 1})
    assert WAYS[way](make_format(name)).parse(make_format(name).render(call)) == call


def test_policies_without_a_model_are_copied() -> None:
    assert through_pickle(NoisyOracle(0.25)) == NoisyOracle(0.25)


def test_what_cannot_be_pickled_says_so() -> None:
    @tool(timeout=None)
    def local() -> str:
        """Exist in here only."""
        return "here"

    with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
        pickle.dumps(local)
    assert through_cloudpickle(local).function() == "here"
    pytest.importorskip("httpx2")
    from steptool_env.tools.http import HttpClient

    client = HttpClient(["localhost"])
    for way in ("pickle", "deepcopy", "cloudpickle"):
        with pytest.raises(NotSupported, match="holds open connections and keys"):
            WAYS[way](client)
    client.close()


@pytest.mark.parametrize("name", IDS)
def test_a_pickle_is_read_by_another_process(name: str, tmp_path: Path) -> None:
    env = played(gym.make(name, suite="worlds", level=5))
    (tmp_path / "env").write_bytes(pickle.dumps(env))
    code = (
        "import pickle, sys\nenv = pickle.load(open(sys.argv[1], 'rb'))\n"
        "pickle.dump([env.step(env.action_space.sample())[4]['tool_error'] for _ in range(3)], open(sys.argv[2], 'wb'))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "env"), str(tmp_path / "out")], check=True, timeout=120)
    assert pickle.loads((tmp_path / "out").read_bytes()) == [env.step(env.action_space.sample())[4]["tool_error"] for _ in range(3)]
