"""The non-tensor content of a checkpoint: JSON values, and only those that survive the round trip unchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from steptool_env.errors import InvalidArgument

__all__ = ["JSON", "check_json"]

JSON: TypeAlias = Any
"""None, bool, int, finite float, str, or a list or a dict with string keys of these."""


def _faults(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                yield f"{path} has the key {key!r}, which is no string"
            yield from _faults(entry, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for k, entry in enumerate(value):
            yield from _faults(entry, f"{path}[{k}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{path} is {value}"
    elif value is not None and not isinstance(value, (bool, int, str)):
        yield f"{path} is of type {type(value).__name__}"


def check_json(value: Any, name: str) -> None:
    """Raise ``InvalidArgument`` with the first part of the value that is not JSON."""
    for fault in _faults(value, name):
        raise InvalidArgument(f"{name} must be JSON (finite numbers, string keys): {fault}")
