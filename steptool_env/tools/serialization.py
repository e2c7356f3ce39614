"""What a tool returned, as the text that a model reads: text stays as it is, everything else becomes JSON.

Plain values go through the encoder of ``jsontext``. What that refuses goes through pydantic's serializer: models, dataclasses, dates,
decimals, enums, UUIDs, paths, sets; and with a little help NumPy's arrays and numbers and pandas' frames, series and missing
values. The order of a set is not kept by Python from one process to the next, so its elements are sorted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Set
from typing import Any

import numpy as np
from pydantic_core import SchemaSerializer, core_schema

from steptool_env.jsontext import MAX_DEPTH, depth_fault, dumps_loose

__all__ = ["NoResult", "as_text"]

_ANY = SchemaSerializer(core_schema.any_schema())
"""Pydantic's serializer of values of any type."""


class NoResult(Exception):
    """What a tool returned cannot be shown to a model: a mistake of the tool's author. The message goes on after "the tool failed:"."""


def as_text(value: Any, limit: int | None = None) -> str:
    """Return a value as text.

    Args:
        value: What a tool returned.
        limit: Characters that will be shown; the depth of what stands behind them does not matter.

    Raises:
        NoResult: No JSON can be made of it; the message says what it is.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise NoResult(f"it returned {memoryview(value).nbytes} bytes of binary data; tools return text or JSON")
    if isinstance(value, Iterator):
        raise NoResult(f"it returned a {type(value).__name__}, which can be read only once; return a list")
    try:
        try:
            text = dumps_loose(value)
        except TypeError:  # more than lists, dicts, texts and numbers
            text = dumps_loose(_as_json(value))
    except RecursionError:
        raise NoResult(f"it returned a value that is nested more than {MAX_DEPTH} levels deep, or contains itself") from None
    except Exception as fault:  # ValueError and TypeError of the serializers, and whatever a method of the value raises
        raise NoResult(f"it returned a value of type {type(value).__name__} that JSON cannot hold: {_message(fault)}") from fault
    if deep := depth_fault(text[:limit]):
        raise NoResult(f"it returned a value that cannot be shown: {deep}")
    return text


def _as_json(value: Any) -> Any:
    value = _without_missing(value, 0)
    # What pydantic makes of a set, or of bytes, shows no longer what it was, so the value is turned into plain Python, too.
    written = _ANY.to_python(value, mode="json", fallback=_known, warnings=False)
    return _checked(written, _ANY.to_python(value, mode="python", fallback=_known, warnings=False))


def _checked(written: Any, plain: Any) -> Any:
    """Return what pydantic wrote, with sets in order; raises ``TypeError`` if it took binary data for text, unless a model says how to write it."""
    if isinstance(plain, bytes | bytearray) and isinstance(written, str) and written.encode() == bytes(plain):
        raise TypeError(f"{len(plain)} bytes of binary data")
    if isinstance(plain, set | frozenset) and isinstance(written, list):
        return sorted(written, key=dumps_loose)
    if isinstance(plain, Mapping) and isinstance(written, dict) and len(plain) == len(written):
        return {key: _checked(item, other) for (key, item), other in zip(written.items(), plain.values(), strict=True)}
    if isinstance(plain, Collection) and not isinstance(plain, str | bytes) and isinstance(written, list) and len(plain) == len(written):
        return [_checked(item, other) for item, other in zip(written, plain, strict=True)]
    return written


def _known(value: Any) -> Any:
    """Return something that pydantic knows instead of a value that it does not."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "mM":
        return [_known(item) if isinstance(item, np.generic) else _known(np.asarray(item)) for item in value] if value.ndim else _known(value[()])
    if (pandas := _pandas()) is not None:
        if value is pandas.NA:
            return None
        if isinstance(value, pandas.DataFrame):
            rows = value if _is_counted(value.index) else value.reset_index()
            return _without_missing(rows.astype(object).to_dict("records"), 0)
        if isinstance(value, pandas.Series):
            return _without_missing(value.tolist() if _is_counted(value.index) else value.astype(object).to_dict(), 0)
        if isinstance(value, pandas.Index):
            return _without_missing(value.tolist(), 0)
        if isinstance(value, pandas.Period | pandas.Interval):
            return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(make := getattr(value, "tolist", None)) and not isinstance(value, type):  # NumPy's, and tensors
        return make()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return set(value)
    if isinstance(value, Collection):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no type that pydantic can serialize")


def _pandas() -> Any:
    return sys.modules.get("pandas")  # whoever has not loaded it returns nothing of it


def _is_counted(index: Any) -> bool:
    """Whether the index of a frame says nothing but the number of the row."""
    return isinstance(index, _pandas().RangeIndex) and index.name is None


def _without_missing(value: Any, depth: int) -> Any:
    """Return the value with None instead of pandas' marks and NaN in it: to pydantic, the one for times is a time that it cannot write."""
    pandas = _pandas()
    if pandas is None or depth > MAX_DEPTH:
        return value  # too deep in any case, or without end
    if type(value) is dict:
        return {key: _without_missing(item, depth + 1) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_without_missing(item, depth + 1) for item in value]
    return None if value is pandas.NaT or value is pandas.NA or (isinstance(value, float) and value != value) else value


def _message(fault: Exception) -> str:
    try:
        return f"{type(fault).__name__}: {str(fault)[:300]}"
    except Exception:  # a foreign __str__ may do anything
        return type(fault).__name__
