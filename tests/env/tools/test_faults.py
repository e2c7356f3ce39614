"""Faults of tools, and of what agents send: each is answered, and the environment lives on."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import data_equivalence
from project import ROOT
from toy import Counter, Counting

from steptool_env import ERRORS, FORMATS, StepToolEnv, Task, Tool, ToolCall, Toolkit
from steptool_env.actions import as_action
from steptool_env.errors import Unavailable
from steptool_env.jsontext import MAX_DEPTH, depth_fault, dumps, dumps_ascii, dumps_loose, loads

Make = Callable[..., StepToolEnv]
IDS = ["StepTool-v0", "StepToolText-v0", "StepToolDiscrete-v0"]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def raising(fault: BaseException) -> Callable[[], Any]:
    def function() -> Any:
        raise fault

    return function


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


FAULTS: dict[str, tuple[Callable[[], Any], float | None, str, str]] = {
    # name: (function, its time limit, the error, a part of the answer)
    "raises": (raising(ValueError("boom")), None, "rejected", "ValueError: boom"),
    "raises rudely": (raising(Rude()), None, "tool_failed", "Rude"),
    "exits": (raising(SystemExit(3)), None, "tool_failed", "SystemExit"),
    "runs out of memory": (raising(MemoryError()), None, "tool_failed", "MemoryError"),
    "recurses": (raising(RecursionError("too deep")), None, "tool_failed", "RecursionError"),
    "hangs": (lambda: threading.Event().wait(60), 0.05, "transient", "no result within 0.05 s"),
    "is down": (raising(Unavailable("no answer")), None, "unavailable", "no answer"),
    "megabytes": (lambda: "x" * 5_000_000, None, "", "[cut: 5000000 characters in all]"),
    "megabytes of JSON": (lambda: ["x" * 1000] * 3000, None, "", "[cut: "),
    "binary": (lambda: b"\x89PNG\r\n", None, "tool_failed", "6 bytes of binary data"),
    "binary within": (lambda: {"data": b"\x00"}, None, "tool_failed", "bytes"),
    "no JSON": (object, None, "tool_failed", "no type that pydantic can serialize"),
    "a set": (lambda: {2, 1}, None, "", "[1, 2]"),
    "a generator": (lambda: (number for number in range(3)), None, "tool_failed", "return a list"),
    "deep": (lambda: nested(MAX_DEPTH + 1), None, "tool_failed", f"nested more than {MAX_DEPTH} levels deep"),
    "very deep": (lambda: nested(100_000), None, "tool_failed", f"nested more than {MAX_DEPTH} levels deep"),
    "a circle": (circle, None, "tool_failed", "contains itself"),
    "as deep as may be": (lambda: nested(MAX_DEPTH), None, "", "[[[["),
    "surrogates": (lambda: "a\ud800b", None, "", "a?b"),
    "nothing": (lambda: None, None, "", "null"),
    "a huge number": (lambda: 10**5000, None, "tool_failed", "ValueError"),
}


class Broken(Counting):
    """Counting, with one more tool that does something bad."""

    def __init__(self, function: Callable[[], Any], timeout: float | None) -> None:
        super().__init__()
        self.tools = [*self.tools, Tool("broken", "", {"type": "object"}, function, timeout=timeout)]

    def toolkit(self, task: Task) -> Toolkit:
        return Toolkit(self.tools, Counter())


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", IDS)
def test_a_fault_of_a_tool_is_answered(name: str, kind: str) -> None:
    function, timeout, error, part = FAULTS[kind]
    env: Any = gym.make(name, suite=Broken(function, timeout)).unwrapped
    observation, info = env.reset(seed=0)
    calls = {
        "StepTool-v0": lambda call: {"name": call.name, "arguments": call.arguments},
        "StepToolText-v0": lambda call: env.call_format.render(call),
        "StepToolDiscrete-v0": lambda call: env.index(call),
    }
    start = time.monotonic()
    observation, reward, _, truncated, info = env.step(calls[name](ToolCall("broken", {})))
    assert time.monotonic() - start < 5
    assert info["tool_error"] == error
    assert info["masked"] is (error == "unavailable")
    assert truncated is (error == "unavailable")
    assert env.observation_space.contains(observation)
    answer = env.episode.messages[-1].content
    assert part in answer
    assert len(answer) < 21_000
    json.dumps(answer, ensure_ascii=False).encode("utf-8")
    pickle.dumps(env.snapshot())
    if error == "unavailable":
        assert reward == 0.0  # masked: neither good nor bad
        env.reset(seed=0)
    target = ToolCall("finish", {"answer": "5"})
    known = calls[name](target)
    *_, info = env.step(known if known is not None else 0)
    assert info["tool_error"] in ERRORS  # the environment lives on


# ---------------------------------------------------------------- what agents send
def test_arguments_have_a_depth() -> None:
    assert isinstance(as_action({"name": "f", "arguments": {"x": nested(MAX_DEPTH)}}), ToolCall)
    for depth in (MAX_DEPTH + 1, 1000, 100_000):
        action = as_action({"name": "f", "arguments": {"x": nested(depth)}})
        assert f"more than {MAX_DEPTH}" in action.reason or f"more than {MAX_DEPTH + 2}" in action.reason  # type: ignore[union-attr]
    assert "without end" in as_action({"name": "f", "arguments": {"x": circle()}}).reason  # type: ignore[union-attr]


def test_a_mapping_that_raises_is_no_call() -> None:
    class Trap(dict):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise OSError("trap")

        def get(self, *_: Any) -> Any:
            raise OSError("trap")

    for action in (Trap(name="f", arguments={}), {"name": "f", "arguments": Trap(x=1)}):
        assert as_action(action).reason  # type: ignore[union-attr]


def test_depth_is_counted_outside_strings_only() -> None:
    assert not depth_fault(dumps(["[" * 1000, "{" * 1000, '"[{' * 100]))
    assert not depth_fault(dumps([[1]] * 1000))
    assert depth_fault(dumps(nested(MAX_DEPTH + 1)))


@pytest.mark.parametrize("value", [None, True, -1.5, 10**30, "é\u2028\ud800", [1, [2]], {"a": {"b": []}, "": "\\"}, (1, 2)])
def test_the_shared_coder_is_json(value: Any) -> None:
    assert dumps_ascii(value) == json.dumps(value)
    assert dumps(value) == dumps_loose(value) == json.dumps(value, ensure_ascii=False)
    assert loads(dumps(value)) == json.loads(json.dumps(value))


def test_the_shared_coder_refuses_what_it_should() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps(float("nan"))
    assert dumps_loose(float("nan")) == "NaN"
    with pytest.raises(TypeError, match="object"):
        dumps(object())


# ---------------------------------------------------------------- exact state across processes
GO_ON = """
def go_on(env):
    seen = []
    for _ in range(6):
        seen.append(env.step(env.action_space.sample()))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return seen
"""


@pytest.mark.parametrize("name", IDS)
def test_a_snapshot_goes_on_in_another_process_bit_by_bit(name: str, tmp_path: Path) -> None:
    options = {"suite": "worlds", "level": 3}
    program = (
        f"import pickle, sys, gymnasium as gym, steptool_env\n{GO_ON}\n"
        f"env = gym.make({name!r}, **{options!r}).unwrapped\n"
        "env.restore(pickle.load(open(sys.argv[1], 'rb')))\n"
        "pickle.dump(go_on(env), open(sys.argv[2], 'wb'))\n"
    )
    scope: dict[str, Any] = {}
    exec(GO_ON, scope)
    env: Any = gym.make(name, **options).unwrapped
    env.action_space.seed(5)
    env.reset(seed=5)
    env.step({"StepTool-v0": None, "StepToolText-v0": "Hm.", "StepToolDiscrete-v0": -1}[name])
    (tmp_path / "in").write_bytes(pickle.dumps(env.snapshot()))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "out")], check=True, env=os.environ | {"PYTHONPATH": path})
    assert data_equivalence(pickle.loads((tmp_path / "out").read_bytes()), scope["go_on"](env))


# ---------------------------------------------------------------- defects of the peers (FIELD.md); the others: test_vector.py
@pytest.mark.parametrize("name", IDS)
def test_spaces_can_sample(name: str) -> None:
    """A peer's spaces raise NotImplementedError on ``sample``, so that no checker can play it."""
    env = gym.make(name)
    env.action_space.seed(0)
    env.reset(seed=0)
    assert all(env.action_space.contains(env.action_space.sample()) for _ in range(50))
    assert env.observation_space.contains(env.observation_space.sample())


@pytest.mark.parametrize("name", IDS)
def test_info_holds_no_time_and_no_random_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's info has time stamps, so that no two runs are equal: here two runs at different times are."""

    def run() -> list[Any]:
        env = gym.make(name, suite="worlds", level=1)
        env.action_space.seed(0)
        seen: list[Any] = [env.reset(seed=0)]
        for _ in range(4):
            seen.append(env.step(env.action_space.sample()))
            if seen[-1][2] or seen[-1][3]:
                seen.append(env.reset())
        return seen

    first = run()
    for clock in ("time", "monotonic", "perf_counter"):
        real = getattr(time, clock)
        monkeypatch.setattr(time, clock, lambda real=real: real() + 1e6)
    assert data_equivalence(run(), first)


def test_truncation_at_the_budget_is_truncation(make_env: Make) -> None:
    """A peer's ``truncated`` is always False."""
    env = make_env(suite="worlds", max_steps=1)
    env.reset(seed=0)
    assert env.step(None)[2:4] == (False, True)


@pytest.mark.parametrize("count", [300])
def test_fuzzing(count: int) -> None:
    """The benchmark ``fuzz.py`` with fewer inputs."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--count", str(count), "--json"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)["results"]
    assert len(results) == len(FORMATS) + 3
    for row in results:
        assert sum(row["answers"].values()) == count
        assert len(row["answers"]) >= 3  # good calls and several kinds of bad ones
