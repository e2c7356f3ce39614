"""Exceptions of code that a user has written: a suite, a shaper, an algorithm. Its author reads one sentence with the line, not our traceback."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

import steptool_env

__all__ = ["author_fault"]

_OURS = tuple(str(Path(folder).resolve()) + os.sep for folder in (Path(steptool_env.__file__).parent, Path(__file__).parents[1]))
_INSTALLED = tuple(os.path.realpath(path) + os.sep for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib", "purelib", "platlib"))


def author_fault(fault: BaseException) -> str:
    """Return which line of a user's own file failed and why, in a sentence; empty if no such file took part.

    A file counts as the user's own if one of ours called it, and if it belongs neither to Python nor to what is installed.
    """
    frames = traceback.extract_tb(fault.__traceback__)
    places = [os.path.realpath(frame.filename) for frame in frames]
    first = next((number for number, place in enumerate(places) if place.startswith(_OURS)), len(places))
    own = [frame for frame, place in zip(frames[first:], places[first:], strict=True) if _is_own(frame.filename, place)]
    if not own:
        return ""
    said = str(fault)
    line = f": {own[-1].line[:100]}" if own[-1].line else ""
    what = own[-1].name if own[-1].name.isidentifier() else "a function"  # or <lambda>, <listcomp>
    return f"{what} failed with {type(fault).__name__}{f': {said}' if said else ''} ({own[-1].filename}, line {own[-1].lineno}{line})"


def _is_own(name: str, place: str) -> bool:
    return not name.startswith("<") and not place.startswith((*_OURS, *_INSTALLED))
