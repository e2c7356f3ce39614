"""Objects whose methods raise: nothing that is passed to a step or comes from a tool ends the environment or the process."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from evil import FAULTS, METHODS, actions, base_of, evil_objects
from toy import Counter, Counting, add

from steptool_env import ERRORS, FINISH, SHAPERS, Malformed, StepToolEnv, Tool, ToolCall, Toolkit, ToolResult, make_suite
from steptool_env.errors import InvalidArgument
from steptool_env.foreign import is_a, kind_of, message_of, shown
from steptool_env.rewards import label
from steptool_env.tasks.jsonl import Jsonl
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.tools.recording import Recorder, read_recording

ANYTHING = {"type": "object"}


def test_there_are_objects_of_every_kind() -> None:
    made = list(evil_objects())
    assert {str, int, list, dict, ToolCall, Malformed, ToolResult} <= {base_of(value) for value in made}
    assert len(made) > 8 * len(METHODS) * len(FAULTS) * 0.6


# ---------------------------------------------------------------- steps
@pytest.mark.parametrize("name", ["StepTool-v0", "StepToolText-v0", "StepToolDiscrete-v0"])
def test_no_object_ends_an_environment(name: str) -> None:
    env = gym.wrappers.RecordEpisodeStatistics(gym.make(name, suite=Counting(max_steps=50), disable_env_checker=False, max_episode_steps=1000))
    env.reset(seed=0)
    kinds: dict[str, int] = {}
    for value in itertools.islice(evil_objects(), 0, None, 5 if name == "StepToolDiscrete-v0" else 1):
        for action in actions(value):
            observation, reward, terminated, truncated, info = env.step(action)
            assert info["tool_error"] in ERRORS and type(info["tool_error"]) is str
            assert math.isfinite(reward)
            kinds[info["tool_error"]] = kinds.get(info["tool_error"], 0) + 1
            if terminated or truncated:
                episode = env.unwrapped.episode  # type: ignore[attr-defined]
                for transition in episode:  # nothing of the object is left: what shapers, graders and files see is plain
                    parts = (transition.action.text, transition.action.reason) if isinstance(transition.action, Malformed) else (transition.action.name,)
                    assert {type(part) for part in (*parts, transition.result.content)} == {str}
                json.dumps(episode.messages).encode()
                if name != "StepToolDiscrete-v0":
                    assert env.observation_space.contains(observation)
                env.reset()
    assert kinds["malformed"] > 500


@pytest.mark.parametrize("name", [name for name in SHAPERS if name not in ("paper-judge", "monte-carlo")])
def test_no_object_reaches_a_shaper(name: str) -> None:
    env = StepToolEnv(Counting(max_steps=200), name)
    env.reset(seed=0)
    for value in itertools.islice(evil_objects(), 0, None, 7):
        for action in actions(value):
            *_, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                assert env.episode is not None
                label(env.shaper, [list(env.episode)])
                env.reset()


def test_the_spaces_say_whether_they_contain_it() -> None:
    env = StepToolEnv(Counting())
    for value in evil_objects():
        for action in actions(value):
            assert env.action_space.contains(action) in (True, False)
        assert env.observation_space.spaces["tools"].contains(value) is (base_of(value) is str)  # type: ignore[attr-defined]


def test_what_looks_like_ctrl_c_goes_through_and_the_episode_goes_on() -> None:
    env = StepToolEnv(Counting(max_steps=1_000_000))
    env.reset(seed=0)
    interrupted = 0
    for value in evil_objects(KeyboardInterrupt):
        for action in itertools.islice(actions(value), 5):
            try:
                env.step(action)
            except KeyboardInterrupt:
                interrupted += 1
    assert interrupted > 20
    env.reset(seed=0)
    assert env.step({"name": "add", "arguments": {"amount": 1}})[-1]["tool_error"] == ""


# ---------------------------------------------------------------- toolkits
def toolkits(folder: Path) -> dict[str, Toolkit]:
    inner = Toolkit([add, FINISH], Counter())
    recorder = Recorder(Toolkit([add, FINISH], Counter()), folder / "calls.jsonl")
    recorder.execute(ToolCall("add", {"amount": 1}))
    jsonl = Jsonl()
    found = {"plain": inner, "faulty": FaultyToolkit(inner, rate=0.5), "recorder": recorder, "replay": read_recording(folder / "calls.jsonl").toolkit()}
    found["jsonl"] = jsonl.toolkit(jsonl[0])
    for name, options in (("bfcl", {}), ("bfcl", {"category": "simple"}), ("worlds", {})):
        try:
            suite = make_suite(name, **options)
        except ImportError:
            continue
        found["-".join([name, *options.values()])] = suite.toolkit(suite[0])
    return found


def test_execute_answers_every_object(tmp_path: Path) -> None:
    for name, toolkit in toolkits(tmp_path).items():
        known = next(iter(toolkit))
        for value in itertools.islice(evil_objects(), 0, None, 1 if name == "plain" else 11):
            for call in (value, ToolCall(value, {}), ToolCall(known, value), ToolCall(known, {"x": value}), ToolCall(known, {"x": [{"y": value}]})):
                result = toolkit.execute(call)
                assert type(result.content) is str and result.error in ERRORS, name


RESULTS: dict[str, Any] = {
    "kind": ToolResult("text", "weird"),
    "none": ToolResult("text", None),  # type: ignore[arg-type]
    "number": ToolResult("text", 0),  # type: ignore[arg-type]
    "list": ToolResult("text", []),  # type: ignore[arg-type]
    "content": ToolResult(object()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", RESULTS)
@pytest.mark.parametrize("timeout", [None, 30.0], ids=["here", "thread"])
def test_an_invalid_result_is_a_fault_of_the_tool(kind: str, timeout: float | None) -> None:
    result = Toolkit([Tool("f", "", ANYTHING, lambda: RESULTS[kind], timeout=timeout)]).execute(ToolCall("f", {}))
    assert result.error == "tool_failed"
    assert kind == "content" or "whose error is" in result.content


def test_any_object_may_come_from_a_tool() -> None:
    values: list[Any] = []
    toolkit = Toolkit([Tool("f", "", ANYTHING, lambda: values[-1])])
    for value in evil_objects():
        for returned in (value, [value], {"x": value}, ToolResult(value), ToolResult("x", value)):
            values.append(returned)
            result = toolkit.execute(ToolCall("f", {}))
            assert type(result.content) is str and result.error in ERRORS
            values.pop()


class Exits(Exception):
    def __str__(self) -> str:
        sys.exit(3)


class Recurses(Exception):
    def __str__(self) -> str:
        return str(self)


@pytest.mark.parametrize("fault", [Exits, Recurses])
@pytest.mark.parametrize("timeout", [None, 30.0], ids=["here", "thread"])
def test_an_exception_without_words_is_an_observation(fault: type[Exception], timeout: float | None) -> None:
    def function() -> str:
        raise fault

    result = Toolkit([Tool("f", "", ANYTHING, function, timeout=timeout)]).execute(ToolCall("f", {}))
    assert result == ToolResult(f"Error: f failed: {fault.__name__}: ", "tool_failed")


def test_a_toolkit_with_kinds_of_its_own_is_told_so() -> None:
    class Odd(Toolkit):
        def answer(self, call: ToolCall) -> ToolResult:
            return ToolResult("text", "odd")

    class OddSuite(Counting):
        def toolkit(self, task: Any) -> Toolkit:
            return Odd([add], Counter())

    suite = OddSuite()
    suite.tools = [add]
    env = StepToolEnv(suite)
    env.reset(seed=0)
    with pytest.raises(InvalidArgument, match="'odd'"):
        env.step({"name": "add", "arguments": {"amount": 1}})


CTRL_C = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts programs in the background has them ignore it
from steptool_env import Tool, ToolCall, Toolkit
def function():
    signal.raise_signal(signal.SIGINT)
    return "late"
class Exits(Exception):
    def __str__(self): sys.exit(3)
def exits(): raise Exits
kit = Toolkit([Tool("f", "", {"type": "object"}, function), Tool("g", "", {"type": "object"}, exits)])
print(kit.execute(ToolCall("g", {})).error, flush=True)
kit.execute(ToolCall("f", {}))
"""


def test_a_tool_cannot_exit_and_ctrl_c_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "tool_failed\n"
    assert done.returncode == -signal.SIGINT and "KeyboardInterrupt" in done.stderr


# ---------------------------------------------------------------- how they are shown
BUILTIN = [None, 1.5, "a'b", b"x", [], {}, set(), (1,), (1, 2), [1, [2, {"a": (3,)}]], {"b": 1, "a": {2}}, frozenset({1}), object, "x" * 150]


@pytest.mark.parametrize("value", BUILTIN, ids=repr)
def test_builtin_values_are_shown_as_ever(value: Any) -> None:
    assert shown(value) == repr(value)


def test_large_and_endless_values_are_shown_in_part() -> None:
    large = [{"a": number} for number in range(1_000_000)]
    assert shown(large) == repr(large[:40])[:200]
    circle: list[Any] = []
    circle.append(circle)
    assert len(shown(circle)) <= 200
    assert shown("x" * 1_000_000, 10) == "'xxxxxxxxx"


def test_nothing_of_an_object_raises() -> None:
    for value in evil_objects():
        assert kind_of(value) == "Evil"
        assert type(shown(value)) is str
        assert is_a(value, base_of(value)) in (True, False)
    assert message_of(Exits()) == message_of(Recurses()) == ""
    assert message_of(KeyError("x" * 500), 10) == "'xxxxxxxxx"
