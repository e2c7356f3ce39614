"""The single-turn categories of suite ``bfcl``: one request, the right call or calls, judged by the package's AST checker.

Nothing is executed: a call is noted, and ``finish`` ends the episode. The verdict is that of the official ``ast_checker``
on all calls that were made, also those that a tool's schema rejects, since the official code sees those as well: the
right function, every required argument, no unexpected one, the right types, each value among the allowed ones, and as
many calls as were asked for. So a wrong call cannot be made good; progress shows it at once.

What is not covered: Java and JavaScript, irrelevance, web search and memory; nor 7 of the 2,351 tasks: 4 for which no call
made of the allowed values passes the checker, and 3 whose own function is called ``finish``.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from steptool_env.errors import DataError, InvalidArgument, MissingExtra, UnknownName
from steptool_env.tasks.base import Episode
from steptool_env.tasks.bfcl_simulators import INSTALL, as_json_schema, data_folder, load_module, read_jsonl
from steptool_env.tasks.listed import Listed, check_split, in_split
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import Toolkit
from steptool_env.types import Outcome, Task, ToolCall, ToolResult

__all__ = ["SINGLE_TURN", "BfclSingle"]

SINGLE_TURN = {
    "simple": "simple_python",
    "multiple": "multiple",
    "parallel": "parallel",
    "parallel_multiple": "parallel_multiple",
    "live_simple": "live_simple",
    "live_multiple": "live_multiple",
    "live_parallel": "live_parallel",
    "live_parallel_multiple": "live_parallel_multiple",
}
"""Category -> what the package's files call it. ``multiple`` offers several tools, ``parallel`` takes several calls."""
SPARE_CALLS = 3
"""Calls that an episode may take beyond those that were asked for and ``finish``."""


@dataclass(frozen=True)
class _Request:
    """What stands behind a task; read-only."""

    category: str
    functions: tuple[Mapping[str, Any], ...]
    """The documentation of the functions, as the checker takes it."""
    answers: tuple[Mapping[str, Any], ...]
    """One per call that is asked for: ``{function: {argument: [allowed values]}}``."""
    tools: Mapping[str, Tool]


@dataclass
class _Calls:
    """All that changes in an episode."""

    made: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    """The answers that no call has matched yet."""
    stray: bool = False
    """Whether some call matched no answer."""


class _LoggingToolkit(Toolkit):
    """Notes every call, then checks it; nothing runs."""

    state: _Calls

    def __init__(self, request: _Request) -> None:
        super().__init__(request.tools.values(), _Calls(open=list(range(len(request.answers)))))
        self.request = request

    def answer(self, call: ToolCall) -> ToolResult:
        if call.name == "finish":
            return super().answer(call)
        state, request = self.state, self.request
        state.made.append((call.name, dict(call.arguments)))
        match = next((index for index in state.open if _matches(request, index, call)), None)
        if match is None:
            state.stray = True
            return super().answer(call)
        state.open.remove(match)
        return ToolResult("Noted.")  # also where the official answer does not fit the official schema, as in a handful of tasks


class BfclSingle(Listed):
    """Single-turn categories of the Berkeley Function Calling Leaderboard, with their AST checker: a curriculum of one to some calls.

    Args:
        category: A key of ``SINGLE_TURN``, or several, whose tasks follow one another.
        split: ``"train"``, ``"test"`` (every fifth task, from 0) or ``"all"``.

    Raises:
        MissingExtra: The package ``bfcl-eval`` is not installed; names the command.
        UnknownName: There is no such category or split.
        InvalidArgument: No category is named.
        DataError: A data file of the package has a broken line.
    """

    name: str = "bfcl"
    has_solution: bool = True
    has_progress: bool = True

    def __init__(self, category: str | list[str] | tuple[str, ...] = "simple", split: str = "train") -> None:
        categories = dict.fromkeys(category if isinstance(category, list | tuple) else [category])
        for one in categories:
            if one not in SINGLE_TURN:
                raise UnknownName("single-turn category of bfcl", one, SINGLE_TURN)
        if not categories:
            raise InvalidArgument("bfcl needs a category, got none; it has: " + ", ".join(SINGLE_TURN))
        check_split(self.name, split)
        self.category, self.split = category, split
        super().__init__(task for one in categories for number, task in _load(one) if in_split(number, split))

    def __reduce__(self) -> tuple[type[BfclSingle], tuple[str | list[str] | tuple[str, ...], str]]:
        return type(self), (self.category, self.split)

    def toolkit(self, task: Task) -> Toolkit:
        return _LoggingToolkit(task.data)

    def grade(self, task: Task, episode: Episode) -> Outcome:
        """1.0 if the official checker accepts the calls that were made, else 0.0 with its reason."""
        if not episode[-1].terminated:
            return Outcome(0.0, "the episode was cut off before it ended")
        fault = _fault(task.data, _state(episode).made)
        return Outcome(float(not fault), fault or "every call is the one that was asked for")

    def progress(self, task: Task, episode: Episode) -> float:
        """The share of the calls asked for that were made; 0 once a call was made that nobody asked for."""
        state = _state(episode)
        return 0.0 if state.stray else 1.0 - len(state.open) / len(task.data.answers)

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        """Return the calls that are still missing, each argument with its first allowed value; ``[]`` after a wrong call."""
        state = _state(episode)
        if state.stray or (len(episode) and episode[-1].terminated):
            return []
        calls = [_gold(task.data, index) for index in state.open]
        return [*calls, ToolCall("finish", {"answer": "Done."})]


def _state(episode: Episode) -> _Calls:
    assert isinstance(episode.toolkit, _LoggingToolkit)
    return episode.toolkit.state


# -------------------------------------------------------------------- the verdict
def _matches(request: _Request, index: int, call: ToolCall) -> bool:
    (name,) = request.answers[index]
    function = next(function for function in request.functions if function["name"] == name)
    return not _checked("simple", [function], [(call.name, call.arguments)], [request.answers[index]])


def _fault(request: _Request, made: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    return _checked(request.category, list(request.functions), made, list(request.answers)) if made else "no tool was called"


def _checked(category: str, functions: list[Any], made: Sequence[tuple[str, Mapping[str, Any]]], answers: list[Any]) -> str:
    """Return ``""`` if the official checker accepts the calls, else its reason."""
    checker = _checker()
    try:
        python = load_module("constants.enums").Language.PYTHON
        verdict = checker.ast_checker(functions, [{name: dict(arguments)} for name, arguments in made], answers, python, category, "steptool")
    except Exception as fault:  # it was not written for values of any shape
        return f"the checker cannot read the calls: {type(fault).__name__}: {fault}"
    return "" if verdict["valid"] else " ".join(map(str, verdict["error"]))[:500] or str(verdict["error_type"])


_importing = threading.Lock()


@functools.cache
def _checker() -> ModuleType:
    """Load a copy of the package's checker for ourselves.

    Its first lines import the clients of every model vendor, for one fact about a model: whether its function names have
    ``_`` where the documentation has a dot. The copy finds a stand-in there, which is gone again when it is loaded.
    """
    name = "bfcl_eval.constants.model_config"
    path = Path(data_folder()).parent / "eval_checker" / "ast_eval" / "ast_checker.py"
    spec = importlib.util.spec_from_file_location("steptool_bfcl_ast_checker", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise MissingExtra("suite 'bfcl', for its AST checker,", "bfcl-eval==2026.3.23", INSTALL)
    module = importlib.util.module_from_spec(spec)
    stand_in: Any = ModuleType(name)
    stand_in.MODEL_CONFIG_MAPPING = {"steptool": SimpleNamespace(underscore_to_dot=True)}
    load_module("constants.enums")
    with _importing:
        before = sys.modules.get(name)
        sys.modules[name] = stand_in
        try:
            spec.loader.exec_module(module)
        finally:
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
    return module


# -------------------------------------------------------------------- the data
@functools.lru_cache(maxsize=len(SINGLE_TURN))
def _load(category: str) -> tuple[tuple[int, Task], ...]:
    """Read a category, once per process: the line, from 0, and the task of each entry."""
    folder, file = data_folder(), f"BFCL_v4_{SINGLE_TURN[category]}.json"
    answers = {row["id"]: row["ground_truth"] for row in read_jsonl(folder / "possible_answer" / file)}
    tasks = []
    for line, entry in enumerate(read_jsonl(folder / file), 1):
        try:
            tasks.append(_task(category, entry, answers[entry["id"]]))
        except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as fault:
            raise DataError(folder / file, line, f"{type(fault).__name__}: {fault}") from fault
    return tuple((number, task) for number, task in enumerate(tasks) if _solvable(task))


def _solvable(task: Task) -> bool:
    request: _Request = task.data
    if "finish" in request.tools:
        return False
    calls = [_gold(request, index) for index in range(len(request.answers))]
    return not _fault(request, [(call.name, call.arguments) for call in calls])


def _task(category: str, entry: Mapping[str, Any], answers: list[Mapping[str, Any]]) -> Task:
    tools = {}
    for doc in entry["function"]:
        name = doc["name"].replace(".", "_")
        tools[name] = Tool(name, doc["description"], {"properties": {}, **as_json_schema(doc["parameters"]), "type": "object"}, _note)
    request = _Request(category, tuple(entry["function"]), tuple(answers), tools)
    text = "\n\n".join(message["content"] for message in entry["question"][0])
    tags: dict[str, str | int] = {"category": category, "calls": len(answers)}
    return Task(entry["id"], text, (*tools, "finish"), len(answers) + 1 + SPARE_CALLS, request, tags)


def _note(**_: Any) -> str:
    return "Noted."


def _gold(request: _Request, index: int) -> ToolCall:
    """Return one of the calls that the answer allows, the one with the fewest arguments."""
    ((name, allowed),) = request.answers[index].items()
    doc = next(doc for doc in request.functions if doc["name"] == name)["parameters"]
    required = doc.get("required", ())
    arguments = {key: _value(values) for key, values in allowed.items() if key in required or "" not in values}
    return ToolCall(name.replace(".", "_"), arguments)


def _value(values: Sequence[Any]) -> Any:
    """Return the first allowed value that is one."""
    return _plain(next((value for value in values if value != ""), ""))


def _plain(value: Any) -> Any:
    """Return an allowed value with one choice made wherever it holds several: a dict gives for each key a list of them."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(inner, list) for inner in value.values()):
        return {key: _value(inner) for key, inner in value.items() if "" not in inner}
    return value
