"""The ``/virtual`` protocol of StableToolBench: one endpoint that stands for thousands of APIs, and its cache read in process.

A request names category, tool, API and input; the answer is ``{"error": text, "response": anything}``, nearly always with
status 200. The beginning of an error text tells what it means (``_MEANING``). The cache of such a server is a folder of
JSON files, whose keys are Python dicts written as text; here they are read as data and compared whatever their order.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from steptool_env.errors import DataError, InvalidArgument, Unavailable
from steptool_env.tools.http import HttpClient, NotAllowed
from steptool_env.tools.recording import canonical
from steptool_env.types import ToolResult

__all__ = ["Api", "CacheFolder", "VirtualBackend", "VirtualServer", "observation", "standardize", "verdict"]

MAX_CHARS = 1024
"""Longer observations are cut, as the benchmark's own client does."""
_MEANING = (
    ("Timeout error", "transient"),
    ("Too many requests error", "again"),
    ("Rate limit", "again"),
    ("API not working error", "transient"),
    ("Message error", "transient"),
    ("Unauthorized error", "unavailable"),
    ("Unsubscribed error", "unavailable"),
    ("Failed to generate fake response", "unavailable"),
    ("API temporarily", "unavailable"),
    ("Gateway", "unavailable"),
)
"""How an error text begins -> the kind of error. ``"again"``: worth another attempt, then ``transient``. Others, such as
a missing parameter: ``rejected``."""


@dataclass(frozen=True, slots=True)
class Api:
    """One API, named as the benchmark does."""

    category: str
    tool: str
    name: str


class VirtualBackend(Protocol):
    """Answers calls of APIs."""

    def ask(self, api: Api, arguments: Mapping[str, Any]) -> ToolResult:
        """Return the observation; raises ``Unavailable``."""
        ...


def standardize(name: str) -> str:
    """Return a name as files and functions of the benchmark have it: lower case, ``_`` for all else, no digit first."""
    name = re.sub(r"_+", "_", re.sub(r"[^a-z0-9_]", "_", name.lower())).strip("_")
    return f"get_{name}" if name[:1].isdigit() else name


def verdict(error: str) -> str:
    """Return the kind of error that an error text means: ``""``, one of ``ERRORS``, or ``"again"``."""
    if not error:
        return ""
    return next((kind for begin, kind in _MEANING if error.lower().startswith(begin.lower())), "rejected")


def observation(answer: Mapping[str, Any]) -> ToolResult:
    """Return what the agent sees of an answer; ``error`` may be ``"again"``."""
    error = answer.get("error", "")
    error = error if isinstance(error, str) else json.dumps(error)
    text = json.dumps({"error": error, "response": answer.get("response", "")}, ensure_ascii=False)
    return ToolResult(text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}...", verdict(error))


class VirtualServer:
    """A server that speaks the protocol.

    Args:
        url: The whole address, such as ``http://127.0.0.1:8080/virtual``.
        client: What sends the requests; its host list must hold the server's host.
        key: Sent as ``toolbench_key``; servers of your own take any.
        attempts: How often a call is made at most if the server says that it came too soon.
        wait: Seconds before the next of these attempts; doubled each time.
    """

    def __init__(self, url: str, client: HttpClient, *, key: str = "", attempts: int = 3, wait: float = 1.0) -> None:
        if attempts < 1 or wait < 0:
            raise InvalidArgument(f"attempts must be at least 1 and wait not negative, got {attempts!r} and {wait!r}")
        self.url, self.client, self.key, self.attempts, self.wait = url, client, key, attempts, wait
        client.hide([key])

    def ask(self, api: Api, arguments: Mapping[str, Any]) -> ToolResult:
        # The keys of the server's cache depend on the order of the arguments; sorted, equal calls meet the same entry.
        body = {"category": api.category, "tool_name": api.tool, "api_name": api.name, "tool_input": canonical(arguments)}
        body |= {"strip": "", "toolbench_key": self.key}
        result = ToolResult("")
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.wait * 2 ** (attempt - 1))
            try:
                answer = self.client.send("POST", self.url, json=body, again=True)
            except NotAllowed as fault:
                raise Unavailable(str(fault)) from None
            if answer.status != 200:
                raise Unavailable(f"request invalid, data error. status_code={answer.status}")
            try:
                result = observation(_object(answer.json()))
            except (RecursionError, ValueError) as fault:
                raise Unavailable(f"the answer is none of the protocol: {fault}") from None
            if result.error == "unavailable":
                raise Unavailable(result.content)
            if result.error != "again":
                return result
        return ToolResult(result.content, "transient")


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or "response" not in value:
        raise ValueError(f"expected an object with error and response, got {value!r:.80}")
    return value


class CacheFolder:
    """The cache of such a server, read in process: deterministic, offline, no HTTP.

    A call that is not in the cache is ``transient``: the model is not to blame for what was not cached.

    Args:
        folder: ``tool_response_cache``: ``<category>/<tool>_for_<category>/<api>.json``.

    Raises:
        InvalidArgument: There is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InvalidArgument(f"the cache folder {str(folder)!r} does not exist")

    def ask(self, api: Api, arguments: Mapping[str, Any]) -> ToolResult:
        category = re.sub(r"[ ,/]", "_", api.category)
        path = self.folder / category / f"{standardize(api.tool)}_for_{category}" / f"{standardize(api.name)}.json"
        answer = _entries(str(path)).get(canonical(arguments)) if path.resolve().is_relative_to(self.folder.resolve()) else None
        if answer is None:
            return ToolResult(json.dumps({"error": "No cached response for this input.", "response": ""}), "transient")
        result = observation(answer)
        if result.error == "unavailable":
            raise Unavailable(result.content)
        return ToolResult(result.content, "transient") if result.error == "again" else result


@functools.lru_cache(maxsize=512)
def _entries(path: str) -> Mapping[str, Mapping[str, Any]]:
    """Read a file of the cache: canonical arguments -> answer; empty if there is none.

    Raises:
        DataError: The file is broken.
    """
    file = Path(path)
    if not file.is_file():
        return {}
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {canonical(_arguments(key)): _object(value) for key, value in entries.items()}
    except (AttributeError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as fault:
        raise DataError(path, 1, f"{type(fault).__name__}: {fault}") from fault


def _arguments(key: str) -> Mapping[str, Any]:
    value = ast.literal_eval(key or "{}")  # reads literals only, runs nothing
    if not isinstance(value, dict):
        raise ValueError(f"a key must be a dict written as text, got {key!r:.80}")
    return value
