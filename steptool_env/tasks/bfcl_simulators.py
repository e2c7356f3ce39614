"""The simulators behind suite ``bfcl``: where the data lie, the tools on offer, and one call of one method.

Everything comes from the installed package ``bfcl-eval``, which is looked for only when a suite is made. Nothing of it is
evaluated as code and none of its module globals are used to keep state: an episode owns its simulators.
"""

from __future__ import annotations

import copy
import decimal
import functools
import importlib
import importlib.util
import inspect
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steptool_env.errors import DataError, MissingExtra
from steptool_env.tools.tool import Tool, tool
from steptool_env.types import ToolCall, ToolResult

__all__ = ["Simulators", "catalog", "data_folder", "invoke", "load_module", "read_jsonl", "signature", "start"]

Simulators = dict[str, Any]
"""Class name -> instance; one set belongs to the agent, a second one to the gold calls."""

INSTALL = "pip install --no-deps bfcl-eval==2026.3.23 mpmath==1.3.0"
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "list": "array", "bool": "boolean"}
_SCALARS = (str, int, float, bool, type(None))
_ID = {"type": ["integer", "string"]}  # documented as integers, but one scenario has tickets such as "ticket_001"
# Beyond the bounds a call would block the process for minutes or fill the memory, and no timeout could interrupt it.
_CORRECTIONS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("close_ticket", "ticket_id"): _ID,
    ("edit_ticket", "ticket_id"): _ID,
    ("get_ticket", "ticket_id"): _ID,
    ("resolve_ticket", "ticket_id"): _ID,
    ("logarithm", "precision"): {"maximum": 1000},
    ("square_root", "precision"): {"maximum": 1000},
    ("power", "exponent"): {"minimum": -1000, "maximum": 1000},
    ("round_number", "decimal_places"): {"minimum": -1000, "maximum": 1000},
}


# -------------------------------------------------------------------- the package
def data_folder() -> Path:
    """Return the folder of the package's data files; raises ``MissingExtra`` where the package is not installed."""
    spec = importlib.util.find_spec("bfcl_eval")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("suite 'bfcl'", "bfcl-eval", INSTALL)
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object a line.

    Raises:
        MissingExtra: The installed version of the package does not have this file.
        DataError: A line is not a JSON object; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingExtra(f"suite 'bfcl', for its file {path.name},", "bfcl-eval==2026.3.23", INSTALL) from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as fault:
            raise DataError(path, number, f"not JSON: {fault}") from fault
        if not isinstance(row, dict):
            raise DataError(path, number, f"expected a JSON object, got {type(row).__name__}")
        rows.append(row)
    return rows


def load_module(name: str) -> Any:
    """Import a module of the package by its name below ``bfcl_eval``.

    Raises:
        MissingExtra: The package, or ``mpmath``, on which its mathematics rests, is not installed.
    """
    try:
        return importlib.import_module(f"bfcl_eval.{name}")
    except ModuleNotFoundError as fault:
        missing = (fault.name or "bfcl-eval").partition(".")[0].replace("_", "-")
        raise MissingExtra("suite 'bfcl'", missing, INSTALL) from fault


@functools.cache
def _simulator(class_name: str) -> Any:
    module: str = load_module("constants.executable_backend_config").CLASS_FILE_PATH_MAPPING[class_name]
    return getattr(load_module(module.partition(".")[2]), class_name)


@functools.cache
def signature(class_name: str, method: str) -> inspect.Signature:
    """Return the signature of a simulator's method, without ``self``."""
    full = inspect.signature(getattr(_simulator(class_name), method))
    return full.replace(parameters=list(full.parameters.values())[1:])


def start(classes: tuple[str, ...], config: Mapping[str, Any], long_context: bool) -> Simulators:
    """Return fresh simulators in their first state; they share nothing with each other, ``config`` or the package."""
    stateless = load_module("constants.executable_backend_config").STATELESS_CLASSES
    simulators: Simulators = {}
    for class_name in classes:
        instance = _simulator(class_name)()
        if class_name not in stateless:
            instance._load_scenario(copy.deepcopy(config.get(class_name, {})), long_context=long_context)
        if long_context:  # the padding refers to module globals, which bookings would then change for good
            padded = {key: value for key, value in vars(instance).items() if isinstance(value, dict | list)}
            for name, value in copy.deepcopy(padded).items():
                setattr(instance, name, value)
        simulators[class_name] = instance
    return simulators


# -------------------------------------------------------------------- one call
_precision = threading.Lock()


@contextmanager
def _restored_precision() -> Iterator[None]:
    """Undo what the mathematics set for the whole process: mpmath's and decimal's precision."""
    mp = importlib.import_module("mpmath").mp
    with _precision, decimal.localcontext():
        before = mp.dps
        try:
            yield
        finally:
            mp.dps = before


@dataclass(frozen=True)
class _Method:
    """One method of one simulator, as the function of a tool; the toolkit's state has ``simulators`` and ``responses``."""

    class_name: str
    name: str
    defaults: Mapping[str, Any]
    """Documented lists and dicts. They are passed as copies: the method's own would be kept and changed for all episodes."""

    def __call__(self, state: Any, /, **arguments: Any) -> ToolResult:
        failed, response = self.run(state.simulators, arguments)
        state.responses.append(response)
        return ToolResult(response, "rejected" if failed else "")

    def run(self, simulators: Simulators, arguments: Mapping[str, Any]) -> tuple[bool, str]:
        """Call the method with copies of the arguments; return whether it failed, and the response on record."""
        values = {key: value if type(value) in _SCALARS else copy.deepcopy(value) for key, value in arguments.items()}
        for key, value in self.defaults.items():
            if key not in values:
                values[key] = copy.copy(value)
        method = getattr(simulators[self.class_name], self.name)
        if self.class_name != "MathAPI":
            return _record(method, values)
        with _restored_precision():
            return _record(method, values)


def _record(method: Any, values: dict[str, Any]) -> tuple[bool, str]:
    # The verdict compares these strings with each other, so they have to be what the official code makes of a result.
    try:
        result = method(**values)
        if type(result) is str:
            return False, result
        if type(result) is not dict:
            return False, str(result)
        failed = "error" in result
        try:
            return failed, json.dumps(result)
        except (TypeError, ValueError, RecursionError):
            return failed, str(result)
    except Exception as fault:  # a simulator is foreign code: whatever it raises is an observation
        return True, f"Error during execution: {fault}"


def invoke(simulators: Simulators, call: ToolCall) -> str:
    """Run a call on these simulators, past every check, and return the response; for the gold calls."""
    return _methods(tuple(simulators))[call.name].run(simulators, call.arguments)[1]


# -------------------------------------------------------------------- the tools
@tool(timeout=None)
def finish(answer: str, give_up: bool = False) -> str:
    """End your turn: everything the user asked for so far is done. The user then asks for the next thing, if there is one.

    Args:
        answer: A short answer to the user.
        give_up: True if what the user asked for cannot be done with the tools and facts at hand.
    """
    return "The conversation has ended."


@functools.cache
def _tools(class_name: str) -> tuple[Tool, ...]:
    """The tools of a simulator, in the order of its documentation; made once for the whole process."""
    file: str = load_module("constants.executable_backend_config").MULTI_TURN_FUNC_DOC_FILE_MAPPING[class_name]
    tools = []
    for doc in read_jsonl(data_folder() / "multi_turn_func_doc" / file):
        name = doc["name"]
        parameters = as_json_schema(doc["parameters"])
        for parameter, schema in parameters["properties"].items():
            schema.update(_CORRECTIONS.get((name, parameter), {}))
        defaults = {key: schema["default"] for key, schema in parameters["properties"].items() if isinstance(schema.get("default"), list | dict)}
        # Each description repeats that of its class, which says nothing about the tool.
        about = doc["description"].rpartition("Tool description: ")[2]
        tools.append(Tool(name, about, parameters | {"additionalProperties": False}, _Method(class_name, name, defaults), stateful=True))
    return tuple(tools)


@functools.cache
def _methods(classes: tuple[str, ...]) -> dict[str, _Method]:
    return {tool.name: tool.function for class_name in classes for tool in _tools(class_name) if isinstance(tool.function, _Method)}


def as_json_schema(node: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the documentation's type names into those of JSON Schema."""
    schema = {key: value for key, value in node.items() if key in ("description", "required", "enum")}
    if isinstance(kind := node.get("type"), str) and kind != "any":
        schema["type"] = _TYPES.get(kind, kind)
    if "default" in node and node["default"] != "None":  # the text "None" stands for an argument left out
        schema["default"] = node["default"]
    if "properties" in node:
        schema["properties"] = {name: as_json_schema(inner) for name, inner in node["properties"].items()}
    if "items" in node:
        schema["items"] = as_json_schema(node["items"])
    return schema


@functools.cache
def catalog(classes: tuple[str, ...], withheld: frozenset[str] = frozenset()) -> tuple[dict[str, Tool], str]:
    """Return the tools of these simulators but the withheld ones, ``finish`` last, and their schemas as a JSON list.

    Both are shared by all episodes that offer the same tools; do not change the dict.
    """
    tools = [tool for class_name in classes for tool in _tools(class_name) if tool.name not in withheld] + [finish]
    return {tool.name: tool for tool in tools}, json.dumps([tool.schema for tool in tools], ensure_ascii=False)
