"""``Tool`` and the ``@tool`` decorator: a typed Python function becomes a tool with a JSON schema."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints, overload

import jsonschema_rs
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic import Field as PydanticField
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError

from steptool_env.errors import InvalidArgument
from steptool_env.foreign import kind_of, message_of
from steptool_env.tools.checking import faults_of

__all__ = ["BadArguments", "Tool", "tool"]

_AS_IS = (str, bool, list, dict, type(None), Any)
"""Hints whose JSON values need no conversion. Not the numbers: JSON schema takes 3.0 for an integer and 3 for a number."""


class BadArguments(ValueError):
    """Raised by a tool whose arguments fit its schema, but that it cannot take, such as the date 2024-02-31."""


@functools.lru_cache(maxsize=4096)
def _validator(schema_json: str) -> jsonschema_rs.Validator:
    # Compiled validators cannot be pickled and equal schemas are common (one per task): keep them outside the tools.
    return jsonschema_rs.validator_for(schema_json, retriever=_refuse)


def _refuse(uri: str) -> Any:
    # By default the validator would fetch whatever host or file a foreign schema refers to.
    raise ValueError(f"schemas outside the tool's own are not fetched: {uri}")


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that the agent can call by name with JSON arguments.

    Arguments are checked against ``parameters`` before the function runs, so it sees only what its schema allows.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    """A JSON schema of type ``object``."""
    function: Callable[..., Any]
    """Called as ``function(**arguments)``, or ``function(state, **arguments)`` if ``stateful``. Returns text or
    anything that ``json.dumps`` takes."""
    stateful: bool = False
    """Whether the function takes the toolkit's state as its first argument."""
    timeout: float | None = None
    """Seconds before a call is given up; ``None`` runs it in the caller's thread, without limit and without overhead."""
    waits: bool = False
    """Whether a call may wait for something outside, such as a server: rollouts then make it in a thread. One with a ``timeout`` may anyway."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidArgument(f"a tool needs a name, got {self.name!r}")
        if not isinstance(self.parameters, Mapping) or self.parameters.get("type") != "object":
            raise InvalidArgument(f"tool {self.name!r}: parameters must be a JSON schema of type 'object', got {self.parameters!r}")
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise InvalidArgument(f"tool {self.name!r}: timeout must be seconds above 0 or None, got {self.timeout!r}")
        try:
            _, parameters = self.schema_json, self._parameters_json  # both are written now, while what is wrong with them can be told
            _validator(parameters)
        except (TypeError, ValueError, RecursionError) as fault:
            raise InvalidArgument(f"tool {self.name!r}: parameters must be a valid JSON schema: {str(fault).splitlines()[0]}") from fault

    def __reduce__(self) -> str | tuple[Any, ...]:
        # A decorated function is not found under its name any more: the tool is. So the tool is what is looked up again.
        made_of = getattr(self.function, "function", self.function)
        module, name = getattr(made_of, "__module__", None), getattr(made_of, "__qualname__", None)
        if module in sys.modules and module != "__main__" and _named(module, str(name)) is self:  # cloudpickle takes along what is defined in __main__
            return _named, (module, name)
        return _rebuild, (type(self), {field.name: getattr(self, field.name) for field in fields(self)})

    @functools.cached_property
    def schema(self) -> Mapping[str, Any]:
        """The function schema that models read: ``{"type": "function", "function": {...}}``."""
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": self.parameters}}

    @functools.cached_property
    def schema_json(self) -> str:
        """The same as text."""
        return json.dumps(self.schema, ensure_ascii=False)

    @functools.cached_property
    def _parameters_json(self) -> str:
        return json.dumps(self.parameters)

    def check(self, arguments: Mapping[str, Any]) -> str:
        """Return what is wrong with the arguments, in words, or ``""`` if they fit the schema."""
        try:
            return "; ".join(faults_of(_validator(self._parameters_json), arguments if type(arguments) is dict else dict(arguments)))
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # what the validator says of a value, or a method of the value does
            return f"the arguments are not JSON: {message_of(fault, 300) or kind_of(fault)}"


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(*, name: str | None = None, timeout: float | None = 30.0) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, timeout: float | None = 30.0
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Turn a typed function into a ``Tool``; the schema comes from its hints, the descriptions from its docstring.

    A first parameter named ``state`` is not shown to the agent: it receives the toolkit's state.

    Args:
        function: The function, when the decorator is used without parentheses.
        name: The tool's name; the function's own by default.
        timeout: Seconds before a call is given up. ``None`` for functions that cannot hang: it saves a thread switch.

    Example:
        >>> @tool
        ... def add(a: int, b: int = 1) -> int:
        ...     '''Add two numbers.
        ...
        ...     Args:
        ...         a: The first number.
        ...     '''
        ...     return a + b
        >>> add.check({"a": "x"})
        'a: "x" is not of type "integer"'
    """
    if function is None:
        return lambda f: _from_function(f, name, timeout)
    return _from_function(function, name, timeout)


def _named(module: str, name: str) -> Any:
    """Return what a module has under this name; None if it has nothing."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _rebuild(kind: type[Tool], values: Mapping[str, Any]) -> Tool:
    return kind(**values)


def _from_function(function: Callable[..., Any], name: str | None, timeout: float | None) -> Tool:
    title = getattr(function, "__name__", None)
    if title is None or not callable(function):
        raise InvalidArgument(f"a tool is made from a function with a name, got {function!r}")
    if inspect.iscoroutinefunction(function):
        raise InvalidArgument(f"tool {title!r}: an async function cannot be called here; wrap it in one that runs it to its end")
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as fault:
        raise InvalidArgument(f"tool {title!r}: its type hints cannot be read: {fault}") from fault
    parameters = list(inspect.signature(function).parameters.values())
    stateful = bool(parameters) and parameters[0].name == "state"
    summary, about = _docstring(inspect.getdoc(function) or "")
    settings_of: dict[str, Any] = {}
    for position, parameter in enumerate(parameters[stateful:]):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InvalidArgument(f"tool {title!r}: parameter {parameter.name!r} cannot be passed by name; tools take named arguments only")
        if parameter.name not in hints:
            raise InvalidArgument(f"tool {title!r}: parameter {parameter.name!r} has no type hint; the schema is made from the hints")
        default = ... if parameter.default is parameter.empty else parameter.default
        # Under an alias, a parameter may have any name, also one that pydantic keeps for itself, such as "schema".
        settings = PydanticField(default, alias=parameter.name, description=about.get(parameter.name))
        settings_of[f"p{position}"] = (hints[parameter.name], settings)
    try:
        model = create_model(title, __config__=ConfigDict(extra="forbid"), **settings_of)
        schema = _without_titles(model.model_json_schema())
    except (PydanticUserError, PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as fault:
        raise InvalidArgument(f"tool {title!r}: no JSON schema for its hints: {str(fault).splitlines()[0]}") from fault
    plain = all(any(hint is json_type for json_type in _AS_IS) for hint, _ in settings_of.values())
    return Tool(
        name=title if name is None else name,
        description=summary,
        parameters=schema,
        function=function if plain else _Converting(function, model, stateful),
        stateful=stateful,
        timeout=timeout,
    )


@dataclass(frozen=True)
class _Converting:
    """Turns JSON into what the hints ask for (dates, enums, models) before the call."""

    function: Callable[..., Any]
    model: type[BaseModel]
    stateful: bool

    def __call__(self, /, *state: Any, **arguments: Any) -> Any:
        try:
            values = self.model.model_validate(arguments)
        except ValidationError as fault:
            raise BadArguments("; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors()[:3])) from fault
        declared = type(values).model_fields
        return self.function(*state, **{str(declared[key].alias): getattr(values, key) for key in values.model_fields_set})


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Split a Google-style docstring into its description and what it says of each argument."""
    head, _, rest = f"\n{text}".partition("\nArgs:\n")
    about: dict[str, str] = {}
    current = ""
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break
        if match := re.match(r"\s{2,6}(\w+)(?: \([^)]*\))?: (.*)", line):
            current = match[1]
            about[current] = match[2].strip()
        elif current and line.strip():
            about[current] += " " + line.strip()
    summary = re.split(r"\n(?:Returns|Raises|Example|Examples|Note):", head)[0]
    return " ".join(summary.split()), about


def _without_titles(schema: Any) -> Any:
    # pydantic adds a "title" to every node; models read them as noise. A property may itself be called "title".
    if isinstance(schema, dict):
        return {
            key: {name: _without_titles(value) for name, value in item.items()} if key in ("properties", "$defs") else _without_titles(item)
            for key, item in schema.items()
            if not (key == "title" and isinstance(item, str))
        }
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    return schema
