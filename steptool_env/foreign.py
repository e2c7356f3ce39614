"""Foreign objects: what is passed to ``step``, and what tools return and raise. Their methods are somebody's code.

Looking at such an object can run that code: ``isinstance`` asks its ``__class__``, an f-string its ``__repr__`` or ``__str__``, a
comparison its ``__eq__``. So whoever looks at one takes its ``type``, shows it with the functions below, and makes an observation
of whatever comes out of the rest, ``SystemExit`` and ``RecursionError`` included. ``KeyboardInterrupt`` alone goes through:
one that an object raises cannot be told from a Ctrl-C. A signal handler that is to end the process therefore raises that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["is_a", "kind_of", "message_of", "shown"]

_NAME: Callable[[type], str] = vars(type)["__name__"].__get__  # what a metaclass says instead of it does not matter
_BRACKETS: dict[type, tuple[str, str]] = {dict: ("{", "}"), list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("frozenset({", "})")}
_DEEPEST = 16


def is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Return whether the value's type is this class or one below it, whatever the value says of itself; never raises."""
    try:
        return issubclass(type(value), kind)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a metaclass may do anything
        return False


def kind_of(value: Any) -> str:
    """Return the name of the value's type; never raises."""
    return _NAME(type(value))


def shown(value: Any, limit: int = 200) -> str:
    """Return ``repr(value)``, at most ``limit`` characters, without making all of a large one; never raises."""
    text = ""
    try:
        for piece in _pieces(value, limit, 0):
            text += piece
            if len(text) >= limit:
                break
    except KeyboardInterrupt:
        raise
    except BaseException:  # a foreign __repr__ may do anything
        return f"<{kind_of(value)}>"[:limit]
    return text[:limit]


def message_of(fault: BaseException, limit: int = 200) -> str:
    """Return ``str(fault)``, at most ``limit`` characters, or ``""`` if it has no words; never raises."""
    try:
        return str.__getitem__(str(fault), slice(limit))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a foreign __str__ may do anything
        return ""


def _pieces(value: Any, limit: int, depth: int) -> Iterator[str]:
    """Yield the parts of the value's representation; what stands beyond ``limit`` characters is not looked at."""
    kind = type(value)
    if kind not in _BRACKETS or not value:
        part = value[: limit + 1] if kind in (str, bytes) else value
        yield str.__getitem__(repr(part), slice(limit))  # a repr may be of a class of its own, too
        return
    opening, closing = _BRACKETS[kind]
    yield opening
    if depth == _DEEPEST:
        yield f"...{closing}"
        return
    items: Iterable[Any] = value
    for number, item in enumerate(items):
        yield ", " if number else ""
        yield from _pieces(item, limit, depth + 1)
        if kind is dict:
            yield ": "
            yield from _pieces(value[item], limit, depth + 1)
    yield ",)" if kind is tuple and len(value) == 1 else closing
