"""Suite ``jsonl``: own tasks are graded by answer and calls; a broken file is refused with line and fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steptool_env import StepToolEnv, ToolCall, Toolkit, make_suite, tool
from steptool_env.errors import DataError, InvalidArgument
from steptool_env.tasks.jsonl import EXAMPLE, Jsonl
from steptool_env.testing import check_suite

SCHEMA = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object", "properties": {"at": {}}}}}
TOOLS = [{"episode": "", "tools": [SCHEMA]}] + [{"episode": "", "name": "look", "arguments": {"at": at, "n": 1}, "content": at, "error": ""} for at in "ab"]
LOOK = {"name": "look", "arguments": {"n": 1, "at": "a"}}
GOOD = {"id": "t", "instruction": "Look at a.", "answer": "a thing"}


def write(folder: Path, *tasks: Any) -> Path:
    (folder / "t.tools.jsonl").write_text("\n".join(map(json.dumps, TOOLS)), encoding="utf-8")
    path = folder / "t.jsonl"
    path.write_text("\n".join(task if isinstance(task, str) else json.dumps(task) for task in tasks), encoding="utf-8")
    return path


def play(suite: Jsonl, *calls: ToolCall) -> tuple[float, float]:
    env = StepToolEnv(suite, "final")
    env.reset(options={"task": 0})
    for call in calls:
        *_, info = env.step(call)
    return info["success"], info["progress"]


def finish(answer: str, **more: Any) -> ToolCall:
    return ToolCall("finish", {"answer": answer, **more})


def test_the_example_is_sound() -> None:
    suite = make_suite("jsonl", split="all")
    assert len(suite) == 12
    assert len(make_suite("jsonl", split="test")) == 3
    check_suite(suite, tasks=12)


@pytest.mark.parametrize(
    ("task", "answer", "solved"),
    [
        ({"answer": "5"}, "It is 5.", 1.0),
        ({"answer": "5"}, "It is 15.", 0.0),
        ({"answer": "5", "match": "exact"}, "It is 5.", 0.0),
        ({"answer": "New York", "match": "exact"}, "  new   york.", 1.0),
        ({"answer": ["one", "two"]}, "two, I think", 1.0),
        ({"answer": "a+b"}, "a+b", 1.0),
        ({"answer": "5"}, "", 0.0),
    ],
)
def test_answers(tmp_path: Path, task: dict[str, Any], answer: str, solved: float) -> None:
    suite = Jsonl(write(tmp_path, {**GOOD, **task}), split="all")
    assert play(suite, finish(answer))[0] == solved
    assert play(suite, finish(answer, give_up=True))[0] == 0.0


def test_calls_are_asked_for_in_any_order_and_key_order(tmp_path: Path) -> None:
    suite = Jsonl(write(tmp_path, {**GOOD, "calls": [LOOK, LOOK, {"name": "look", "arguments": {"at": "b", "n": 1}}]}), split="all")
    a, b = ToolCall("look", {"at": "a", "n": 1}), ToolCall("look", {"n": 1, "at": "b"})
    assert play(suite, b, a, a, finish("a thing")) == (1.0, 1.0)
    assert play(suite, b, a, finish("a thing")) == (0.0, pytest.approx(2 / 3))
    assert play(suite, a, a, a, finish("a thing")) == (0.0, pytest.approx(2 / 3))
    assert play(suite, ToolCall("look", {"at": "zzz"}), finish("a thing")) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("task", "fault"),
    [
        ("{", "Expecting"),
        ("[]", "must be of type dict"),
        ({"id": "x"}, "instruction|solved"),
        ({**GOOD, "anser": "x"}, "unknown field 'anser'"),
        ({"id": "x", "instruction": "y"}, "nothing says when it is solved"),
        ({**GOOD, "match": "fuzzy"}, "contains, exact"),
        ({**GOOD, "tools": ["hear"]}, "'hear' does not exist"),
        ({**GOOD, "calls": [{"name": "look", "arguments": {"at": "c"}}]}, "cannot be solved"),
        ({**GOOD, "calls": [LOOK], "max_steps": 1}, "max_steps"),
        ({**GOOD, "split": "dev"}, "train or test"),
        ({**GOOD, "tags": {"a": 1.5}}, "tag 'a'"),
        (GOOD | {"id": "first"}, "used before"),
        ({**GOOD, "answer": [3]}, "answer"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, task: Any, fault: str) -> None:
    path = write(tmp_path, GOOD | {"id": "first"}, "", task)
    with pytest.raises(DataError, match=rf"(?s)line 3: .*({fault})"):
        Jsonl(path)


def test_missing_files_and_live_tools(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="does not exist"):
        Jsonl(tmp_path / "none.jsonl")

    @tool(timeout=None)
    def look(at: str, n: int = 1) -> str:
        """Look."""
        return at * n

    path = write(tmp_path, {**GOOD, "calls": [LOOK]})
    with pytest.raises(InvalidArgument, match="not both"):
        Jsonl(path, tools=EXAMPLE, source=lambda: Toolkit([look]))
    suite = Jsonl(path, source=lambda: Toolkit([look]), split="all")
    assert not suite.can_snapshot
    assert play(suite, ToolCall("look", {"at": "a", "n": 1}), finish("a thing")) == (1.0, 1.0)
