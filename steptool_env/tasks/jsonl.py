"""Suite ``jsonl``: your own tasks and recorded tool results, from two files. The format: ``docs/suites.md``.

A task is a line with an instruction and what solves it: an answer, calls that must be made, or both. The tools and what
they answer come from a recording (``tools/recording.py``), so that episodes are deterministic and need no server.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steptool_env.errors import DataError, InvalidArgument
from steptool_env.reference import find
from steptool_env.tasks.base import Episode
from steptool_env.tasks.listed import Listed, check_split, in_split
from steptool_env.tools.recording import Recording, ReplayToolkit, canonical, read_recording
from steptool_env.tools.toolkit import Toolkit
from steptool_env.tools.wrapped import WrappedToolkit
from steptool_env.types import Outcome, Task, ToolCall, ToolResult

__all__ = ["Jsonl"]

EXAMPLE = Path(__file__).parent / "example" / "tasks.jsonl"
_FIELDS = ("id", "instruction", "answer", "match", "calls", "tools", "max_steps", "split", "tags")
_MATCH = ("contains", "exact")


@dataclass(frozen=True)
class _Goal:
    """What solves a task; read-only."""

    answers: tuple[str, ...]
    """Any of these is right; empty if the answer does not matter."""
    match: str
    calls: tuple[ToolCall, ...]
    """These must all succeed, in any order."""
    split: str


class _ChecklistToolkit(WrappedToolkit):
    """The tools of one task; crosses off the calls that were asked for."""

    def __init__(self, inner: Toolkit, calls: Iterable[ToolCall]) -> None:
        super().__init__(inner)
        self.open = Counter((call.name, canonical(call.arguments)) for call in calls)
        """The calls that are still to be made."""

    def answer(self, call: ToolCall) -> ToolResult:
        result = self.inner.execute(call)
        if not result.error and call.name != "finish" and self.open[key := (call.name, canonical(call.arguments))] > 0:
            self.open[key] -= 1
        return result

    def snapshot(self) -> Any:
        return self.inner.snapshot(), self.open.copy()

    def restore(self, state: Any) -> None:
        self.inner.restore(state[0])
        self.open = state[1].copy()


class Jsonl(Listed):
    """Your own tasks, from a file of JSON lines, with recorded tool results; by default a small example.

    Args:
        path: The file of tasks.
        tools: The recording; by default the file beside it that ends in ``.tools.jsonl``.
        source: Live tools instead of recorded ones: makes the toolkit of an episode, such as ``McpSource(...).toolkit``. Or a reference to
            it, or to an object that has a method ``toolkit``: ``"module:object"``, ``"path/to/file.py:object"``, or a file with a function ``make``.
        split: ``"train"``, ``"test"`` or ``"all"``; a task without a ``split`` of its own is ``"test"`` if it is every
            fifth line, from the first.

    Raises:
        DataError: A line is broken, or asks for a call that was not recorded; names file and line. Nothing is half-loaded.
        InvalidArgument: There is no such file.
    """

    name: str = "jsonl"
    has_solution: bool = True
    has_progress: bool = True

    def __init__(
        self,
        path: str | os.PathLike[str] = EXAMPLE,
        tools: str | os.PathLike[str] | None = None,
        split: str = "train",
        source: Callable[[], Toolkit] | str | None = None,
    ) -> None:
        check_split(self.name, split)
        self.path = Path(path)
        if source is not None and tools is not None:
            raise InvalidArgument("suite 'jsonl' takes tools= (a recording) or source= (live tools), not both")
        self.tools = Path(tools) if tools is not None else self.path.with_suffix(".tools.jsonl")
        for file in (self.path, self.tools) if source is None else (self.path,):
            if not file.is_file():
                raise InvalidArgument(f"suite 'jsonl' needs the file {str(file)!r}, which does not exist; its format: docs/suites.md")
        self.source = _found(source) if isinstance(source, str) else source
        self.recording = read_recording(self.tools) if source is None else None
        self.can_snapshot = source is None  # the state of live tools is elsewhere
        offered: Iterable[str] = self.recording.tools if self.recording is not None else self._live()
        names = [name for name in offered if name != "finish"]
        super().__init__(task for task in _read(self.path, names, self.recording) if split in ("all", task.data.split))

    def toolkit(self, task: Task) -> Toolkit:
        if self.source is None:
            assert self.recording is not None
            return _ChecklistToolkit(ReplayToolkit(self.recording, task.id, task.tools), task.data.calls)
        live = self._live()
        return _ChecklistToolkit(Toolkit([tool for name, tool in live.items() if name in task.tools], live.state), task.data.calls)

    def _live(self) -> Toolkit:
        assert self.source is not None
        made = self.source()
        if not isinstance(made, Toolkit):
            raise InvalidArgument(f"suite 'jsonl': source= must make a Toolkit, got {made!r:.200}")
        return made

    def grade(self, task: Task, episode: Episode) -> Outcome:
        """1.0 if the episode was ended with a right answer and every call that was asked for had succeeded."""
        goal, last = task.data, episode[-1]
        if not last.terminated or not isinstance(last.action, ToolCall):
            return Outcome(0.0, "the episode was cut off before it ended")
        if missing := [name for (name, _), count in _open(episode).items() if count]:
            return Outcome(0.0, f"{len(missing)} calls were not made, such as one of {missing[0]}")
        if last.action.arguments.get("give_up"):
            return Outcome(0.0, "it was given up")
        given = _normal(str(last.action.arguments.get("answer", "")))
        right = not goal.answers or any(_matches(given, _normal(answer), goal.match) for answer in goal.answers)
        return Outcome(float(right), "solved" if right else "the answer is not the right one")

    def progress(self, task: Task, episode: Episode) -> float:
        """The share of the calls asked for that were made."""
        calls = len(task.data.calls)
        return 1.0 - _open(episode).total() / calls if calls else 0.0

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        """Return the calls that are still to be made, and ``finish`` with the first right answer."""
        missing, calls = _open(episode).copy(), []
        for call in task.data.calls:
            if missing[key := (call.name, canonical(call.arguments))] > 0:
                missing[key] -= 1
                calls.append(ToolCall(call.name, json.loads(key[1])))
        return [*calls, ToolCall("finish", {"answer": task.data.answers[0] if task.data.answers else "Done."})]


def _found(reference: str) -> Callable[[], Toolkit]:
    source = find(reference, "source of tools")
    if callable(made := getattr(source, "toolkit", None)) and not inspect.isclass(source):
        return made  # type: ignore[no-any-return]
    if not callable(source):
        raise InvalidArgument(f"source of tools {reference!r} must be a function that makes a Toolkit, or have a method toolkit, got {source!r:.200}")
    return source  # type: ignore[no-any-return]


def _open(episode: Episode) -> Counter[tuple[str, str]]:
    assert isinstance(episode.toolkit, _ChecklistToolkit)
    return episode.toolkit.open


def _normal(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")


def _matches(given: str, answer: str, how: str) -> bool:
    """Contained as whole words: the answer 5 is not contained in 15."""
    return given == answer if how == "exact" else re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", given) is not None


# -------------------------------------------------------------------- the file
def _read(path: Path, offered: list[str], recording: Recording | None) -> list[Task]:
    tasks: list[Task] = []
    seen: set[str] = set()
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            task = _task(json.loads(line), len(tasks), offered, recording)
            if task.id in seen:
                raise ValueError(f"the id {task.id!r} was used before")
        except (KeyError, RecursionError, TypeError, ValueError) as fault:
            message = f"the field {fault} is missing" if isinstance(fault, KeyError) else str(fault)
            raise DataError(path, number, message) from fault
        seen.add(task.id)
        tasks.append(task)
    return tasks


def _task(record: Any, place: int, offered: list[str], recording: Recording | None) -> Task:
    _is(record, dict, "a line")
    if unknown := sorted(set(record) - set(_FIELDS)):
        raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(_FIELDS)}")
    answers = record.get("answer", [])
    answers = [answers] if isinstance(answers, str) else _is(answers, list, "'answer'")
    match = record.get("match", "contains")
    if match not in _MATCH:
        raise ValueError(f"'match' must be one of {', '.join(_MATCH)}, got {match!r}")
    names = record.get("tools", offered)
    for name in _is(names, list, "'tools'"):
        if name not in offered:
            raise ValueError(f"the tool {name!r} does not exist; on offer: {', '.join(offered)}")
    task_id = _is(record["id"], str, "'id'")
    calls = tuple(_call(call, names, task_id, recording) for call in _is(record.get("calls", []), list, "'calls'"))
    if not calls and not answers:
        raise ValueError("a task needs 'answer', 'calls' or both: nothing says when it is solved")
    split = record.get("split", "test" if in_split(place, "test") else "train")
    if split not in ("train", "test"):
        raise ValueError(f"'split' must be train or test, got {split!r}")
    tags = _is(record.get("tags", {}), dict, "'tags'")
    for key, value in tags.items():
        if type(value) not in (str, int):
            raise ValueError(f"the tag {key!r} must be a text or an integer, got {value!r}")
    budget = record.get("max_steps", 2 * len(calls) + 8)
    if type(budget) is not int or budget <= len(calls):
        raise ValueError(f"'max_steps' must be an integer above the number of calls ({len(calls)}), got {budget!r}")
    goal = _Goal(tuple(_is(answer, str, "every 'answer'") for answer in answers), match, calls, split)
    return Task(task_id, _is(record["instruction"], str, "'instruction'"), (*names, "finish"), budget, goal, tags)


def _call(record: Any, names: list[str], task_id: str, recording: Recording | None) -> ToolCall:
    call = ToolCall(_is(_is(record, dict, "a call")["name"], str, "the name of a call"), _is(record.get("arguments", {}), dict, "'arguments'"))
    key = (call.name, canonical(call.arguments))
    if call.name not in names:
        raise ValueError(f"the call of {call.name!r} is asked for, which is not among the task's tools: {', '.join(names)}")
    if recording is None:
        return call
    results = recording.results.get((task_id, *key)) or recording.anywhere.get(key, ())
    if not any(not result.error for result in results):
        raise ValueError(f"the call {call.name}({key[1]}) has no recorded result without an error, so the task cannot be solved")
    return call


def _is(value: Any, kind: type, what: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{what} must be of type {kind.__name__}, got {value!r:.80}")
    return value


