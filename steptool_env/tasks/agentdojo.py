"""Suite ``agentdojo``: the 97 user tasks of AgentDojo v1.2.2, without attacks, with the package's own checkers.

A task is solved if its checker accepts the answer given to ``finish`` and what became of the environment, or the calls that
were made. The package imports the clients of every model vendor for its own agents; they are not needed here, so the
package of its agents is stood in for while its suites are loaded.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import functools
import importlib
import importlib.util
import json
import sys
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from steptool_env.errors import MissingExtra, UnknownName
from steptool_env.tasks.base import Episode
from steptool_env.tasks.listed import Listed, check_split, in_split
from steptool_env.tools.recording import canonical
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import Outcome, Task, ToolCall, ToolResult

__all__ = ["CATEGORIES", "AgentDojo"]

CATEGORIES = ("workspace", "travel", "banking", "slack")
VERSION = "v1.2.2"
BUDGET = 30
"""Calls per episode; the longest official solution takes 18 and ``finish``."""
_INSTALL = "pip install --no-deps agentdojo==0.1.35 && pip install 'pydantic[email]' deepdiff docstring-parser pyyaml"
_AGENTS = "agentdojo.agent_pipeline"


@dataclass
class _World:
    """All that changes in an episode."""

    before: Any
    """The package's environment as it was at the beginning."""
    now: Any
    calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    """Every call that was made, also those that failed: some checkers look at them."""


class _DojoToolkit(Toolkit):
    """The tools of one of the package's suites."""

    state: _World

    def answer(self, call: ToolCall) -> ToolResult:
        if call.name != "finish":
            with contextlib.suppress(ValueError):  # no JSON: what follows says so
                self.state.calls.append((call.name, json.loads(canonical(call.arguments))))
        return super().answer(call)


class AgentDojo(Listed):
    """The 97 user tasks of AgentDojo v1.2.2 (workspace, travel, banking, slack), without attacks.

    Args:
        category: One of ``CATEGORIES``, or ``"all"``.
        split: ``"train"``, ``"test"`` (every fifth task of each category, from the first) or ``"all"``.

    Raises:
        MissingExtra: The package agentdojo, or one that it needs, is not installed.
    """

    name: str = "agentdojo"
    has_solution: bool = True

    def __init__(self, category: str = "all", split: str = "train") -> None:
        if category not in (*CATEGORIES, "all"):
            raise UnknownName("agentdojo category", category, (*CATEGORIES, "all"))
        check_split(self.name, split)
        self.category, self.split = category, split
        categories = CATEGORIES if category == "all" else (category,)
        super().__init__(task for name in categories for number, task in enumerate(_load(name)) if in_split(number, split))

    def __reduce__(self) -> tuple[type[AgentDojo], tuple[str, str]]:
        return type(self), (self.category, self.split)

    def toolkit(self, task: Task) -> Toolkit:
        category = str(task.tags["category"])
        now = task.data.init_environment(_environment(category).model_copy(deep=True))
        return _DojoToolkit([*_tools(category), FINISH], _World(now.model_copy(deep=True), now))

    def grade(self, task: Task, episode: Episode) -> Outcome:
        """1.0 if the package's checker of the task accepts the answer, the environment or the calls."""
        last = episode[-1]
        if not last.terminated or not isinstance(last.action, ToolCall):
            return Outcome(0.0, "the episode was cut off before an answer")
        world, answer = _world(episode), str(last.action.arguments.get("answer", ""))
        calls = [_module("functions_runtime").FunctionCall(function=name, args=dict(arguments)) for name, arguments in world.calls]
        try:
            verdict = task.data.utility_from_traces(answer, world.before, world.now, calls)
            if verdict is None:
                verdict = task.data.utility(answer, world.before, world.now)
        except Exception as fault:  # a checker may stumble over what an agent left behind
            return Outcome(0.0, f"the checker failed: {type(fault).__name__}: {fault}")
        return Outcome(float(bool(verdict)), "solved" if verdict else "the checker does not accept it")

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        """Return the official calls that were not made yet, and the official answer. Harm done by other calls is not mended."""
        world = _world(episode)
        made = [ToolCall(name, arguments) for name, arguments in world.calls]
        calls = []
        for call in task.data.ground_truth(world.before.model_copy(deep=True)):
            # Through JSON, as an agent would have to write it: some arguments are dates.
            gold_call = ToolCall(call.function, json.loads(json.dumps(dict(call.args), default=str)))
            if gold_call in made:
                made.remove(gold_call)
            else:
                calls.append(gold_call)
        return [*calls, ToolCall("finish", {"answer": str(task.data.GROUND_TRUTH_OUTPUT)})]


def _world(episode: Episode) -> _World:
    assert isinstance(episode.toolkit, _DojoToolkit)
    return episode.toolkit.state


# -------------------------------------------------------------------- the package
_importing = threading.Lock()


def _module(name: str) -> Any:
    """Import a module of the package without its agents.

    Raises:
        MissingExtra: It, or a package that it needs, is not installed.
    """
    spec = importlib.util.find_spec("agentdojo")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("suite 'agentdojo'", "agentdojo", _INSTALL)
    full = f"agentdojo.{name}"
    with _importing:
        if full in sys.modules:
            return sys.modules[full]
        stand_ins = _stand_ins(Path(next(iter(spec.submodule_search_locations))) / "agent_pipeline")
        stand_ins = {key: module for key, module in stand_ins.items() if key not in sys.modules}
        sys.modules.update(stand_ins)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(full)
        except ModuleNotFoundError as fault:
            missing = (fault.name or "agentdojo").partition(".")[0]
            raise MissingExtra("suite 'agentdojo'", missing, _INSTALL) from fault
        finally:
            for key, module in stand_ins.items():
                if sys.modules.get(key) is module:
                    del sys.modules[key]


def _stand_ins(folder: Path) -> dict[str, ModuleType]:
    """Return empty packages in place of the agents; of their clients, the suites use one constant."""
    pipeline, clients = ModuleType(_AGENTS), ModuleType(f"{_AGENTS}.llms")
    pipeline.__path__, clients.__path__ = [str(folder)], []
    google: Any = ModuleType(f"{_AGENTS}.llms.google_llm")
    google.EMPTY_FUNCTION_NAME = "<empty-function>"
    return {module.__name__: module for module in (pipeline, clients, google)}


@functools.cache
def _suite(category: str) -> Any:
    suite = _module("task_suite.load_suites").get_suite(VERSION, category)
    # Two of its tools stamp what they write with the time of day, and their replies show it: an episode would never be the same twice.
    for tools in ("email_client", "cloud_drive_client"):
        module: Any = _module(f"default_suites.v1.tools.{tools}")
        module.datetime = SimpleNamespace(datetime=_Clock)
    return suite


class _Clock:
    """Stands still, at noon of the day on which the package's calendar begins."""

    @staticmethod
    def now() -> datetime.datetime:
        return datetime.datetime(2024, 5, 15, 12)


@functools.cache
def _environment(category: str) -> Any:
    return _suite(category).load_and_inject_default_environment({})


@functools.cache
def _tools(category: str) -> tuple[Tool, ...]:
    functions = _suite(category).tools
    return tuple(Tool(function.name, function.description, _parameters(function), _Function(category, function.name), stateful=True) for function in functions)


@functools.cache
def _runtime(category: str) -> Any:
    return _module("functions_runtime").FunctionsRuntime(_suite(category).tools)


def _parameters(function: Any) -> dict[str, Any]:
    schema = function.parameters.model_json_schema()
    properties = {name: {key: value for key, value in inner.items() if key != "title"} for name, inner in schema.get("properties", {}).items()}
    found = {"type": "object", "properties": properties, "required": schema.get("required", [])}
    return {**found, **({"$defs": schema["$defs"]} if "$defs" in schema else {})}


@dataclass(frozen=True)
class _Function:
    """One function of the package as the function of a tool; by name, because the package's own classes cannot be pickled."""

    category: str
    name: str

    def __call__(self, state: _World, /, **arguments: Any) -> ToolResult:
        result, error = _runtime(self.category).run_function(state.now, self.name, copy.deepcopy(arguments))
        if error is not None:
            return ToolResult(error, "bad_arguments" if error.startswith("ValidationError") else "rejected")
        return ToolResult(_module("agent_pipeline.tool_execution").tool_result_to_str(result))


@functools.cache
def _load(category: str) -> tuple[Task, ...]:
    suite = _suite(category)
    _module("agent_pipeline.tool_execution")
    names = (*(function.name for function in suite.tools), "finish")
    tasks = []
    for task_id, task in sorted(suite.user_tasks.items(), key=lambda item: int(item[0].rsplit("_", 1)[1])):
        tags: dict[str, str | int] = {"category": category, "difficulty": task.DIFFICULTY.name.lower()}
        tasks.append(Task(f"{category}_{task_id}", task.PROMPT, names, BUDGET, task, tags))
    return tuple(tasks)
