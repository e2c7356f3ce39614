"""What is wrong with the arguments of a call: the first three faults, in a time that large arguments do not stretch.

The validator tells all faults or one. All faults of a long wrong list are as many as it has items, so of large arguments it is
shown an excerpt: every container as far as its first items and those from the first fault on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsonschema_rs

from steptool_env.jsontext import MAX_CHARS, dumps

__all__ = ["faults_of"]

MOST = 3
"""Faults that are told."""
_SMALL = 20_000
"""Characters of JSON up to which all faults are looked for."""
_KEPT = 32
"""Items of a container that an excerpt keeps at its beginning, and again from the first fault on."""

_MOST_ITEMS = 2_000
"""Items in an excerpt; from then on, only what leads to the first fault is kept."""

_Path = tuple[Any, ...]


def faults_of(validator: jsonschema_rs.Validator, arguments: Mapping[str, Any]) -> list[str]:
    """Return up to three faults in words, each after the path of what is at fault; ``[]`` if the arguments fit the schema.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: The arguments are not JSON.
    """
    if validator.is_valid(arguments):
        return []
    size = len(dumps(arguments))
    if size > MAX_CHARS:
        return [f"they take {size} characters; {MAX_CHARS} are allowed"]
    if size <= _SMALL:
        return [_words(tuple(error.instance_path), error.message) for error in itertools.islice(validator.iter_errors(arguments), MOST)]
    try:
        validator.validate(arguments)
    except jsonschema_rs.ValidationError as error:
        first = tuple(error.instance_path)
        return [_words(first, error.message), *itertools.islice(_further(validator, arguments, first), MOST - 1)]
    return []


def _further(validator: jsonschema_rs.Validator, arguments: Mapping[str, Any], first: _Path) -> Iterator[str]:
    """Yield more faults, as an excerpt of the arguments shows them."""
    excerpt = _Excerpt()
    for error in validator.iter_errors(excerpt.of(arguments, first, ())):
        path = tuple(error.instance_path)
        # What an excerpt lacks the whole need not lack: nothing is said of a container that was cut, or of one around it.
        if not any(cut[: len(path)] == path for cut in excerpt.kept) and (real := excerpt.real(path)) != first:
            yield _words(real, error.message)


class _Excerpt:
    """Some items of a large value, and where they stand in it."""

    def __init__(self) -> None:
        self.kept: dict[_Path, Sequence[Any]] = {}
        """Path of every container that was cut, within the excerpt -> the indices or keys of the items that were kept."""
        self._left = _MOST_ITEMS

    def of(self, value: Any, first: _Path | None, here: _Path) -> Any:
        """Return the excerpt of a value.

        Args:
            value: The value.
            first: The rest of the path to the first fault; None if it does not lead through this value.
            here: The value's path in the excerpt.
        """
        if not isinstance(value, dict | list):
            return value
        keys: Sequence[Any] = range(len(value)) if isinstance(value, list) else list(value)
        start = keys.index(first[0]) if first else 0
        least = keys[start : start + 1] if first else keys[:0]
        if self._left <= 0:
            chosen: Sequence[Any] = least
        elif len(keys) > 2 * _KEPT:
            chosen = [*keys[:_KEPT], *keys[max(_KEPT, start) : max(_KEPT, start) + _KEPT]]
        else:
            chosen = keys
        if len(chosen) < len(keys):
            self.kept[here] = chosen
        self._left -= len(chosen)
        parts = []
        for number, key in enumerate(chosen):
            rest = first[1:] if first and key == first[0] else None
            parts.append((key, self.of(value[key], rest, (*here, number if isinstance(value, list) else key))))
        return dict(parts) if isinstance(value, dict) else [part for _, part in parts]

    def real(self, path: _Path) -> _Path:
        """Return the path in the whole value of what has this path in the excerpt."""
        return tuple(self.kept[path[:depth]][step] if isinstance(step, int) and path[:depth] in self.kept else step for depth, step in enumerate(path))


def _words(path: _Path, message: str) -> str:
    # A fault quotes the value; the part that says what is wrong with it comes at the end.
    message = message if len(message) <= 300 else f"{message[:100]} … {message[-200:]}"
    where = ".".join(map(str, path))
    return f"{where}: {message}" if where else message
