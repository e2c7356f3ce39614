"""Objects whose methods raise whatever they like: what a step, a toolkit or a shaper may be given by somebody else's code."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

from steptool_env import Malformed, ToolCall, ToolResult
from steptool_env.types import Unanswered

__all__ = ["FAULTS", "METHODS", "actions", "base_of", "evil_objects"]

METHODS = (
    *("__class__", "__getattribute__", "__eq__", "__ne__", "__hash__", "__len__", "__iter__", "__repr__", "__str__", "__format__", "__bool__"),
    *("__index__", "__int__", "__getitem__", "__contains__", "items", "keys", "get", "text", "reason", "name", "arguments", "error", "content"),
)
FAULTS: tuple[type[BaseException], ...] = (RuntimeError, RecursionError, MemoryError, SystemExit, GeneratorExit)
_BASES: tuple[tuple[type, tuple[Any, ...]], ...] = (
    (object, ()),
    (dict, ({"name": "add", "arguments": {"amount": 1}},)),
    (collections.UserDict, ({"name": "add", "arguments": {"amount": 1}},)),
    (str, ("add",)),
    (int, (3,)),
    (list, ([1],)),
    (ToolCall, ("add", {"amount": 1})),
    (Malformed, ("text", "reason")),
    (Unanswered, ("text", "reason")),
    (ToolResult, ("content",)),
)


def evil_objects(fault: type[BaseException] | None = None) -> Iterator[Any]:
    """Yield an object for every base, method and fault; some of all methods at once, with a metaclass that is no better."""
    for base, arguments in _BASES:
        for wrong in (fault,) if fault else FAULTS:
            for methods in (*((method,) for method in METHODS), METHODS):
                try:
                    made = base.__new__(_evil_class(base, methods, wrong), *(arguments if base in (str, int) else ()))
                    if base not in (object, str, int):
                        base.__init__(made, *arguments)
                except BaseException:  # its own constructor stumbles: such an object cannot be made
                    continue
                yield made


def _evil_class(base: type, methods: tuple[str, ...], wrong: type[BaseException]) -> type:
    def trap(*_: Any, **__: Any) -> Any:
        raise wrong("a trap")

    plain = {"text", "reason", "name", "arguments", "error", "content", "__class__"}
    body: dict[str, Any] = {method: property(trap) if method in plain else trap for method in methods}
    kind = type(base)
    if len(methods) > 1 and kind is type:  # below an ABC, such a class would break every isinstance() of the process by being there
        kind = type("EvilMeta", (kind,), {"__getattribute__": trap, "__hash__": trap, "__eq__": trap, "__repr__": trap})
    return kind("Evil", (base,), body)


def base_of(value: Any) -> type:
    """Return the class that the class of an evil object is made from; its metaclass is not asked."""
    bases: tuple[type, ...] = vars(type)["__bases__"].__get__(type(value))
    return bases[0]


def actions(value: Any) -> Iterator[Any]:
    """Yield actions with an object at every place where one can be."""
    yield value
    yield {"name": value, "arguments": {}}
    yield {"name": "add", "arguments": value}
    yield {"name": "add", "arguments": {"amount": value}}
    yield {"name": "add", "arguments": {"amount": [{"x": (value,)}]}}
    yield {"name": "add", "arguments": {}, "more": value}
    yield ToolCall(value, value)
    yield ToolCall("add", {"amount": value})
    yield Malformed(value, value)
    try:
        yield {value: 1, "name": "add"}
    except BaseException:  # it has no hash
        return
