"""Record and replay: what a live toolkit answered becomes a file, and the file a toolkit that needs nothing else.

A recording is JSON Lines: one line with the schemas of the tools, then one line a call. A replayed episode answers the same
calls in the same order with the very same results. A call that comes at another place is answered by a recorded result of
the same call, in the order of their recording and then by the last one; one that was never recorded is ``rejected``: in
a recorded world, what was not recorded does not exist. Faults of the infrastructure are not recorded: they say nothing about the tool.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steptool_env.errors import DataError, InvalidArgument
from steptool_env.foreign import kind_of, message_of
from steptool_env.jsontext import dumps_ascii
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.tools.wrapped import WrappedToolkit
from steptool_env.types import ERRORS, ToolCall, ToolResult, whose

__all__ = ["Recorder", "Recording", "ReplayToolkit", "canonical", "read_recording"]

logger = logging.getLogger(__name__)


def canonical(arguments: Mapping[str, Any]) -> str:
    """Return arguments as a text that is the same whatever the order of the keys; raises ``ValueError`` if they are not JSON."""
    try:
        return json.dumps(dict(arguments), sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # what the encoder says of a value, or a method of the value does
        raise ValueError(f"the arguments are not JSON: {message_of(fault) or kind_of(fault)}") from None


class Recorder(WrappedToolkit):
    """A toolkit that asks another one and appends what it answered to a file.

    Args:
        inner: The toolkit that is asked. ``finish`` is not recorded.
        path: The file; several recorders of one process may share it, until it is read.
        episode: Name of the episode, such as the task's id; the order of the results is kept within it.
        replace: Whether the first of these recorders replaces a file that is there.

    Raises:
        InvalidArgument: There is a recording already: a replay would answer with results of the old one and of the new.
    """

    def __init__(self, inner: Toolkit, path: str | os.PathLike[str], episode: str = "", *, replace: bool = False) -> None:
        super().__init__(inner)
        self.path, self.episode = Path(path), episode
        _begin(self.path, replace)
        self._recorded = ""
        self._record_tools()

    def answer(self, call: ToolCall) -> ToolResult:
        result = self.inner.execute(call)
        if self.schemas != self._recorded:
            self._record_tools()
        if call.name != "finish" and whose(result.error) != "infrastructure":
            try:
                key = canonical(call.arguments)
            except ValueError:
                return result  # no JSON: replaying it would be answered in the same way
            _append(self.path, {"episode": self.episode, "name": call.name, "arguments": json.loads(key), "content": result.content, "error": result.error})
        return result

    def _record_tools(self) -> None:
        self._recorded = self.schemas
        _append(self.path, {"episode": self.episode, "tools": [tool.schema for tool in self.values()]})


_LOCK = threading.Lock()
_BEGUN: set[Path] = set()
"""The files that this process is recording to."""


def _begin(path: Path, replace: bool) -> None:
    real = path.resolve()
    with _LOCK:
        there = path.exists() and path.stat().st_size > 0
        if there and real not in _BEGUN:
            if not replace:
                raise InvalidArgument(f"{str(path)!r} holds a recording already; give another file, or replace=True")
            path.write_bytes(b"")
        _BEGUN.add(real)


def _append(path: Path, record: Mapping[str, Any]) -> None:
    line = dumps_ascii(record) + "\n"
    with _LOCK, path.open("a", encoding="ascii") as file:
        file.write(line)


@dataclass(frozen=True)
class Recording:
    """What a file of recorded calls holds; read-only, shared by all episodes."""

    tools: Mapping[str, Tool]
    results: Mapping[tuple[str, str, str], tuple[ToolResult, ...]]
    """(episode, tool, canonical arguments) -> the results, in the order of their recording."""
    anywhere: Mapping[tuple[str, str], tuple[ToolResult, ...]]
    """(tool, canonical arguments) -> the same over all episodes."""

    def toolkit(self, episode: str = "") -> ReplayToolkit:
        """Return the recorded tools with the results of an episode; fresh at its beginning."""
        return ReplayToolkit(self, episode)


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a file that ``Recorder`` wrote.

    A last line without an end, which a process was killed at, is left out, and the log says so.

    Raises:
        DataError: A line is broken; names file, line and fault.
        FileNotFoundError: There is no such file.
    """
    content = Path(path).read_bytes()
    with _LOCK:
        _BEGUN.discard(Path(path).resolve())
    if _is_torn(content):
        content, torn = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
        logger.warning("%s: the last line ends after %d bytes and is left out", path, len(torn))
    tools: dict[str, Tool] = {}
    results: dict[tuple[str, str, str], list[ToolResult]] = {}
    anywhere: dict[tuple[str, str], list[ToolResult]] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            episode = _text(record, "episode")
            if "tools" in record:
                for schema in record["tools"]:
                    function = schema["function"]
                    if function["name"] not in ("finish", *tools):
                        tools[function["name"]] = Tool(function["name"], function.get("description", ""), function["parameters"], _never)
                continue
            result = ToolResult(_text(record, "content"), _text(record, "error"))
            if result.error not in ERRORS:
                raise ValueError(f"unknown kind of error {result.error!r}")
            name, key = _text(record, "name"), canonical(record["arguments"])
        except (AttributeError, InvalidArgument, KeyError, RecursionError, TypeError, ValueError) as fault:
            raise DataError(path, number, f"{type(fault).__name__}: {fault}") from fault
        results.setdefault((episode, name, key), []).append(result)
        anywhere.setdefault((name, key), []).append(result)
    return Recording(tools, {key: tuple(found) for key, found in results.items()}, {key: tuple(found) for key, found in anywhere.items()})


def _is_torn(content: bytes) -> bool:
    if content.endswith(b"\n"):
        return False
    try:
        json.loads(content[content.rfind(b"\n") + 1 :] or b"{}")
    except (ValueError, RecursionError):
        return True
    return False


def _text(record: Mapping[str, Any], key: str) -> str:
    if not isinstance(record[key], str):
        raise ValueError(f"{key!r} must be a text, got {record[key]!r:.80}")
    return str(record[key])


def _never(**_: Any) -> str:
    raise AssertionError("a recorded tool is never run")


@dataclass
class _ReplayCounts:
    """How often each call was answered in this episode."""

    times: dict[tuple[str, str], int] = field(default_factory=dict)


class ReplayToolkit(Toolkit):
    """Answers from a recording; deterministic, offline, copyable.

    Args:
        recording: Of ``read_recording``.
        episode: Whose results come first.
        tools: Names of the tools on offer; all recorded ones by default.
    """

    state: _ReplayCounts

    def __init__(self, recording: Recording, episode: str = "", tools: Iterable[str] | None = None) -> None:
        offered = [recording.tools[name] for name in (recording.tools if tools is None else tools) if name != "finish"]
        super().__init__([*offered, FINISH], _ReplayCounts())
        self.recording, self.episode = recording, episode

    def answer(self, call: ToolCall) -> ToolResult:
        if call.name == "finish" or call.name not in self:
            return super().answer(call)
        try:
            key = (call.name, canonical(call.arguments))
        except ValueError:
            return super().answer(call)  # no JSON: says so
        found = self.recording.results.get((self.episode, *key)) or self.recording.anywhere.get(key)
        if found:
            times = self.state.times.get(key, 0)
            self.state.times[key] = times + 1
            return found[min(times, len(found) - 1)]
        if fault := self[call.name].check(call.arguments):
            return self._bad_arguments(self[call.name], fault)
        return ToolResult(f"Error: {call.name} was never called with these arguments while it was recorded.", "rejected")
