"""``Tool`` and the ``@tool`` decorator: a typed Python function becomes a tool with a JSON schema."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, overload

import jsonschema_rs

from steptool_env.errors import InvalidArgument
from steptool_env.foreign import kind_of, message_of
from steptool_env.tools.checking import faults_of
from steptool_env.tools.functions import BadArguments, read_function

__all__ = ["BadArguments", "Tool", "tool"]


@functools.lru_cache(maxsize=4096)
def _validator(schema_json: str) -> jsonschema_rs.Validator:
    # Equal schemas are common (one per task): they share a compiled validator.
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
    """Called as ``function(**arguments)``, or ``function(state, **arguments)`` if ``stateful``. Returns text, or what
    ``serialization.as_text`` makes JSON of. Not an async function: ``@tool`` makes one callable."""
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
        if inspect.iscoroutinefunction(self.function):
            raise InvalidArgument(f"tool {self.name!r}: nobody would await an async function here; make the tool with @tool, or pass Awaited(function)")
        if self.timeout is not None and (not isinstance(self.timeout, int | float) or not 0 < self.timeout < float("inf")):
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
        """The function schema that models read, as a dict: ``{"type": "function", "function": {...}}``."""
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": self.parameters}}

    @functools.cached_property
    def schema_json(self) -> str:
        """The same as text; ``Toolkit.schemas`` is a list of these, as text, too."""
        return json.dumps(self.schema, ensure_ascii=False)

    @functools.cached_property
    def _parameters_json(self) -> str:
        return json.dumps(self.parameters)

    @functools.cached_property
    def _is_valid(self) -> Callable[[Mapping[str, Any]], bool]:
        return _validator(self._parameters_json).is_valid  # no field, so it is not pickled with the tool, which it could not be

    def check(self, arguments: Mapping[str, Any]) -> str:
        """Return what is wrong with the arguments, in words, or ``""`` if they fit the schema."""
        try:
            plain = arguments if type(arguments) is dict else dict(arguments)
            return "" if self._is_valid(plain) else "; ".join(faults_of(_validator(self._parameters_json), plain))
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # what the validator says of a value, or a method of the value does
            return f"the arguments are not JSON: {message_of(fault, 300) or kind_of(fault)}"


@overload
def tool(function: Callable[..., Any], /, *, name: str | None = None, timeout: float | None = 30.0) -> Tool: ...
@overload
def tool(*, name: str | None = None, timeout: float | None = 30.0) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, timeout: float | None = 30.0
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Turn a typed function into a ``Tool``; the schema comes from its hints, the descriptions from its docstring.

    Functions and ``async`` functions, methods, classes, callable objects, and ``functools.partial`` of these. Descriptions
    come from ``Annotated[..., Field(description=...)]``, or from a docstring in the style of Google, NumPy or Sphinx.
    A first parameter named ``state`` is not shown to the agent: it receives the toolkit's state.

    Args:
        function: The function, when the decorator is used without parentheses.
        name: The tool's name, of the characters a-z, A-Z, 0-9, _ and -; the function's own by default.
        timeout: Seconds before a call is given up. With a limit, it runs in another thread than the caller's. ``None`` for
            functions that cannot hang, which saves a thread switch, or that must not change threads, such as those of sqlite3.

    Raises:
        InvalidArgument: No tool can be made of the function, or the name is not one; the message says why.

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
    read = read_function(function, name, timeout)
    return Tool(read.name, read.description, read.parameters, read.call, read.stateful, timeout, read.waits)
