"""Suite ``toolbench``: the 765 solvable queries of StableToolBench, with the APIs that each offers.

The benchmark has no gold arguments and no gold answers. What can be checked without a judge is the **recall of the relevant
APIs**: the share of them that were called with valid arguments, if the episode ends with an answer. It is the verdict here;
a judge comes with the shaper ``paper-judge``. Results of calls come from a server that speaks ``/virtual``, from its cache
folder, or, with neither, from the documented example of a response: enough to learn which APIs to call, and no more.
"""

from __future__ import annotations

import functools
import json
import os
import urllib.parse
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from steptool_env.errors import DataError, InvalidArgument, MissingExtra, UnknownName
from steptool_env.tasks.base import Episode
from steptool_env.tasks.listed import Listed, check_split, in_split
from steptool_env.tools.http import HttpClient
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.tools.virtual import Api, CacheFolder, VirtualBackend, VirtualServer, observation, standardize
from steptool_env.types import Outcome, Task, ToolCall, ToolResult

__all__ = ["SUBSETS", "Toolbench", "recall"]

SUBSETS = ("G1_instruction", "G1_category", "G1_tool", "G2_category", "G2_instruction", "G3_instruction")
_TYPES = {"STRING": "string", "NUMBER": "number", "INTEGER": "integer", "BOOLEAN": "boolean", "ARRAY": "array", "LIST": "array", "OBJECT": "object"}
_GET = "git clone https://github.com/THUNLP-MT/StableToolBench, then folder=StableToolBench/solvable_queries/test_instruction"


@dataclass(frozen=True)
class _Query:
    """What stands behind a task; read-only."""

    tools: Mapping[str, Tool]
    apis: Mapping[str, Api]
    relevant: frozenset[str]
    """Names of the tools that are relevant."""
    examples: Mapping[str, Mapping[str, Any]]
    """Arguments that fit, by tool."""
    responses: Mapping[Api, Any]
    """The documented examples of a response."""


@dataclass
class _Called:
    names: set[str] = field(default_factory=set)
    """The tools that were called with valid arguments."""


class _ApiToolkit(Toolkit):
    """The APIs of one query."""

    state: _Called

    def __init__(self, query: _Query, backend: VirtualBackend) -> None:
        super().__init__([*query.tools.values(), FINISH], _Called())
        # The tools are shared by all episodes of the query; only here it is known who answers.
        for name, api in query.apis.items():
            self._tools[name] = replace(query.tools[name], function=functools.partial(_ask, backend, api), waits=not isinstance(backend, CacheFolder))

    def answer(self, call: ToolCall) -> ToolResult:
        result = super().answer(call)
        if result.error not in ("unknown_tool", "bad_arguments") and call.name != "finish":
            self.state.names.add(call.name)
        return result


def _ask(backend: VirtualBackend, api: Api, /, **arguments: Any) -> ToolResult:
    return backend.ask(api, arguments)


class Toolbench(Listed):
    """The 765 solvable queries of StableToolBench; the verdict is the recall of the relevant APIs.

    Args:
        folder: Where the six files of queries lie (``G1_instruction.json`` …); the environment variable
            ``STEPTOOL_TOOLBENCH`` by default.
        subset: One of ``SUBSETS``, or ``"all"``.
        split: ``"train"``, ``"test"`` (a fifth, by query id) or ``"all"``.
        server: Address of a server that speaks the protocol, such as ``http://127.0.0.1:8080/virtual``.
        cache: Folder of such a server's cache, read in process instead.
        max_steps: Calls per episode, ``finish`` included.

    Raises:
        MissingExtra: The folder of queries is not given, or not there.
        DataError: A file of queries is broken.
    """

    name: str = "toolbench"
    has_solution: bool = True
    has_progress: bool = True

    def __init__(
        self, folder: str = "", subset: str = "all", split: str = "train", server: str | None = None, cache: str | None = None, max_steps: int = 12
    ) -> None:
        if subset not in (*SUBSETS, "all"):
            raise UnknownName("toolbench subset", subset, (*SUBSETS, "all"))
        check_split(self.name, split)
        if server is not None and cache is not None:
            raise InvalidArgument("suite 'toolbench' takes server= or cache=, not both")
        where = Path(folder or os.environ.get("STEPTOOL_TOOLBENCH", ""))
        subsets = SUBSETS if subset == "all" else (subset,)
        if not (folder or os.environ.get("STEPTOOL_TOOLBENCH")) or not any((where / f"{subset}.json").is_file() for subset in subsets):
            raise MissingExtra("suite 'toolbench'", "StableToolBench", _GET)
        self._made_of = (str(where), subset, split, server, cache, max_steps)
        self.backend: VirtualBackend = _Documented()
        if server is not None:
            host = urllib.parse.urlsplit(server).hostname or ""
            self.backend = VirtualServer(server, HttpClient([host], private=[host]))
        elif cache is not None:
            self.backend = CacheFolder(cache)
        tasks = [task for subset in subsets if (where / f"{subset}.json").is_file() for task in _read(where / f"{subset}.json", subset, max_steps)]
        super().__init__(task for task in tasks if in_split(zlib.crc32(task.id.encode()), split))

    def __reduce__(self) -> tuple[type[Toolbench], tuple[Any, ...]]:
        return type(self), self._made_of  # not the backend: it may hold connections

    def toolkit(self, task: Task) -> Toolkit:
        query: _Query = task.data
        backend = _Documented(query) if isinstance(self.backend, _Documented) else self.backend
        return _ApiToolkit(query, backend)

    def grade(self, task: Task, episode: Episode) -> Outcome:
        """The recall of the relevant APIs, if the agent ended the episode with an answer; else 0."""
        last = episode[-1]
        if not last.terminated or not isinstance(last.action, ToolCall):
            return Outcome(0.0, "the episode was cut off before an answer")
        if last.action.arguments.get("give_up") or not str(last.action.arguments.get("answer", "")).strip():
            return Outcome(0.0, "there is no answer")
        share = self.progress(task, episode)
        return Outcome(share, f"called {share:.0%} of the relevant APIs")

    def progress(self, task: Task, episode: Episode) -> float:
        """The recall of the relevant APIs so far."""
        assert isinstance(episode.toolkit, _ApiToolkit)
        return recall(episode.toolkit.state.names, task.data.relevant)

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        """Return one valid call of every relevant API that was not called yet, and an answer."""
        assert isinstance(episode.toolkit, _ApiToolkit)
        query: _Query = task.data
        missing = [name for name in query.tools if name in query.relevant - episode.toolkit.state.names]
        return [*(ToolCall(name, dict(query.examples[name])) for name in missing), ToolCall("finish", {"answer": "Done."})]


def recall(called: set[str] | frozenset[str], relevant: frozenset[str]) -> float:
    """Return |called ∩ relevant| / |relevant|; 1.0 if nothing is relevant."""
    return len(called & relevant) / len(relevant) if relevant else 1.0


class _Documented:
    """Answers with the documented example of a response."""

    def __init__(self, query: _Query | None = None) -> None:
        self.query = query

    def ask(self, api: Api, arguments: Mapping[str, Any]) -> ToolResult:
        assert self.query is not None
        return observation({"error": "", "response": self.query.responses.get(api, "")})


# -------------------------------------------------------------------- the data
def _read(path: Path, subset: str, max_steps: int) -> list[Task]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise DataError(path, getattr(fault, "lineno", 1), f"not JSON: {fault}") from fault
    tasks = []
    for number, row in enumerate(rows, 1):
        try:
            tasks.append(_task(row, subset, max_steps))
        except (AttributeError, InvalidArgument, KeyError, TypeError, ValueError) as fault:
            raise DataError(path, number, f"query {number}: {type(fault).__name__}: {fault}") from fault
    return tasks


def _task(row: Mapping[str, Any], subset: str, max_steps: int) -> Task:
    tools: dict[str, Tool] = {}
    apis: dict[str, Api] = {}
    examples: dict[str, Mapping[str, Any]] = {}
    responses: dict[Api, Any] = {}
    for entry in row["api_list"]:
        api = Api(entry["category_name"], entry["tool_name"], entry["api_name"])
        if api in apis.values():
            continue  # some lists name an API twice
        name = _name(api, apis)
        apis[name], tools[name] = api, Tool(name, str(entry.get("api_description") or "")[:512], _parameters(entry), _checked_only)
        examples[name] = _example(tools[name])
        if entry.get("template_response"):
            responses[api] = entry["template_response"]
    relevant = {(tool, api) for tool, api in row["relevant APIs"]}
    names = frozenset(name for name, api in apis.items() if (api.tool, api.name) in relevant)
    if len({(apis[name].tool, apis[name].name) for name in names}) < len(relevant):
        raise ValueError(f"a relevant API is not in the list of APIs: {sorted(relevant)}")
    query = _Query(tools, apis, names, examples, responses)
    tags: dict[str, str | int] = {"subset": subset, "relevant": len(names)}
    return Task(f"{subset}-{row['query_id']}", row["query"], (*tools, "finish"), max(max_steps, len(names) + 1), query, tags)


def _name(api: Api, taken: Mapping[str, Api]) -> str:
    """Return the function's name as the benchmark makes it, its last 64 characters; a number makes it unique."""
    name = f"{standardize(api.name)}_for_{standardize(api.tool)}"[-64:].lstrip("_")
    tries = [name, *(f"{name[:60]}_{number}" for number in range(2, 100))]
    return next(candidate for candidate in tries if candidate not in taken and candidate != "finish")


def _parameters(entry: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for key in ("required_parameters", "optional_parameters"):
        for parameter in entry.get(key) or ():
            name = str(parameter["name"])
            if not name or name in properties:
                continue
            schema: dict[str, Any] = {"description": str(parameter.get("description") or "")[:256]}
            if kind := _TYPES.get(str(parameter.get("type", "")).upper(), "string"):
                schema["type"] = kind
            default = parameter.get("default")
            if default not in (None, "") and _fits(default, kind):
                schema["default"] = default
            properties[name] = schema
            if key == "required_parameters":
                required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _fits(value: Any, kind: str) -> bool:
    kinds: dict[str, tuple[type, ...]] = {"string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,), "array": (list,), "object": (dict,)}
    return isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _example(tool: Tool) -> dict[str, Any]:
    empty: dict[str, Any] = {"string": "x", "number": 1, "integer": 1, "boolean": True, "array": [], "object": {}}
    properties: Mapping[str, Any] = tool.parameters["properties"]
    wanted: Sequence[str] = tool.parameters["required"]
    return {name: properties[name].get("default", empty[properties[name]["type"]]) for name in wanted}


def _checked_only(**_: Any) -> str:
    return ""
