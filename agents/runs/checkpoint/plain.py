"""What a checkpoint takes beside tensors: JSON, and nothing that JSON would change on its way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from steptool_env.errors import InvalidArgument

__all__ = ["JSON", "check_json"]

JSON: TypeAlias = Any
"""None, bool, int, finite float, str, or a list or a dict with string keys of these."""


def _faults(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                yield f"{where} has the key {key!r}, which is no string"
            yield from _faults(entry, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for k, entry in enumerate(value):
            yield from _faults(entry, f"{where}[{k}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{where} is {value}"
    elif value is not None and not isinstance(value, (bool, int, str)):
        yield f"{where} is of type {type(value).__name__}"


def check_json(value: Any, name: str) -> None:
    """Raise ``InvalidArgument`` with the first thing in the value that is no JSON."""
    for fault in _faults(value, name):
        raise InvalidArgument(f"{name} must be JSON (finite numbers, string keys): {fault}")
