"""The single-turn categories of ``bfcl``: gold is accepted, the verdict is that of the AST checker, nothing is left behind."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

from steptool_env import StepToolEnv, ToolCall, make_suite
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tasks.bfcl_single import SINGLE_TURN, BfclSingle

MakeEnv = Callable[..., StepToolEnv]
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("bfcl_eval", "mpmath")),
    reason="bfcl-eval is not installed: pip install --no-deps bfcl-eval==2026.3.23 mpmath==1.3.0",
)
SIZES = {"simple": 400, "multiple": 200, "parallel": 200, "parallel_multiple": 200, "live_simple": 256, "live_multiple": 1048, "live_parallel": 16}
DONE = ToolCall("finish", {"answer": "Done."})


def play(env: StepToolEnv, task: int | str, calls: list[ToolCall]) -> dict[str, Any]:
    env.reset(options={"task": task})
    info: dict[str, Any] = {}
    for call in calls:
        *_, info = env.step(call)
    return info


@pytest.mark.parametrize("category", SINGLE_TURN)
def test_gold_solves_every_task_and_nothing_none(make_env: MakeEnv, category: str) -> None:
    env = make_env(suite="bfcl", category=category, split="all")
    assert len(env.suite) == SIZES.get(category, 24)
    for index in range(0, len(env.suite), 1 if category != "live_multiple" else 5):
        env.reset(options={"task": index})
        calls = env.solution()
        assert len(calls) == env.task.tags["calls"] + 1 < env.task.max_steps
        for call in calls:
            *_, terminated, truncated, info = env.step(call)
            assert info["tool_error"] == ""
        assert (terminated, truncated, info["success"], info["progress"]) == (True, False, 1.0, 1.0), env.task.id
        assert play(env, index, [DONE])["success"] == 0.0


def test_the_split_goes_by_number() -> None:
    parts = {split: {task.id for task in make_suite("bfcl", category="simple", split=split)} for split in ("train", "test", "all")}
    assert len(parts["test"]) == 80
    assert "simple_python_5" in parts["test"]
    assert parts["train"] | parts["test"] == parts["all"]
    assert not parts["train"] & parts["test"]
    assert pickle.loads(pickle.dumps(BfclSingle("parallel", "test"))).split == "test"


def test_several_categories_are_one_suite_each_with_its_own_checker(make_env: MakeEnv) -> None:
    both = make_suite("bfcl", category=["parallel", "simple", "parallel"], split="test")
    assert [task.id for task in both] == [task.id for name in ("parallel", "simple") for task in make_suite("bfcl", category=name, split="test")]
    assert [task.id for task in pickle.loads(pickle.dumps(both))] == [task.id for task in both]
    env = make_env(suite="bfcl", category=["parallel", "simple"], split="test")
    for index in (0, len(env.suite) - 1):
        env.reset(options={"task": index})
        for call in env.solution():
            *_, info = env.step(call)
        assert info["success"] == 1.0
    with pytest.raises(UnknownName, match="single-turn category of bfcl 'base'"):
        make_suite("bfcl", category=["simple", "base"])
    with pytest.raises(UnknownName, match="unknown bfcl category"):
        make_suite("bfcl", category=3)
    with pytest.raises(InvalidArgument, match="got none"):
        make_suite("bfcl", category=[])


def test_what_the_checker_accepts_and_what_not(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", category="parallel", split="all")
    swift = ToolCall("spotify_play", {"artist": "taylor swift", "duration": 20})
    maroon = ToolCall("spotify_play", {"artist": "Maroon 5", "duration": 15})
    for calls, success, progress in [
        ([swift, maroon], 1.0, 1.0),
        ([maroon, swift], 1.0, 1.0),  # any order
        ([swift], 0.0, 0.5),
        ([swift, swift], 0.0, 0.0),
        ([swift, maroon, swift], 0.0, 0.0),
        ([swift, ToolCall("spotify_play", {"artist": "Maroon 5", "duration": 16})], 0.0, 0.0),
        ([swift, ToolCall("no_such_tool", {}), maroon], 0.0, 0.0),  # a wrong call counts, also one that is answered with an error
        ([swift, ToolCall("spotify_play", {"artist": "Maroon 5"}), maroon], 0.0, 0.0),
    ]:
        info = play(env, "parallel_0", [*calls, DONE])
        assert (info["success"], info["progress"]) == (success, progress), calls
    play(env, "parallel_0", [swift])
    assert env.solution() == [maroon, DONE]
    env.step(swift)
    assert env.solution() == []


def test_values_of_any_shape_end_in_a_verdict(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", category="live_simple", split="test")
    for index in range(0, len(env.suite), 3):
        env.reset(options={"task": index})
        name = env.task.tools[0]
        for value in (None, {"a": {"b": [1]}}, [{"x": None}], float("nan"), "x"):
            properties = env.episode.toolkit[name].parameters.get("properties", {})  # type: ignore[union-attr]
            *_, truncated, _ = env.step(ToolCall(name, dict.fromkeys(properties or ["q"], value)))
            if truncated:
                break
        else:
            *_, info = env.step(DONE)
            assert info["success"] == 0.0


def test_no_stand_in_is_left_behind(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", category="simple", split="test")
    env.reset(seed=0)
    assert "bfcl_eval.constants.model_config" not in sys.modules
    assert "bfcl_eval.eval_checker.ast_eval.ast_checker" not in sys.modules
    with pytest.raises(UnknownName, match="parallel_multiple"):
        make_suite("bfcl", category="parallell")
