"""What the numbers in a row of ``StepToolDiscrete-v0``'s observation mean, and those that follow from words and places alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steptool_env.wrappers.memory import Memory, Value

__all__ = [
    *("CHOICE", "CODE", "FAR", "FEATURES", "FORM", "PAIR", "SHARED", "VALUE", "WIDTHS"),
    *("bits", "closest_left", "left_of", "nearness", "place_of", "tool_code", "value_features"),
]

CODE, CHOICE = 16, 8
"""Bits of the code of a tool, and of the code of a choice among its other arguments."""
FEATURES = (
    *("valid", "repeats a good call", "repeats a bad call", "role in argument", "verb near role", "choice near role", "nearest choice"),
    *("finish", "verb mentioned", "tool used", *(f"tool {bit}" for bit in range(CODE))),
    *("choice", "choice mentioned", *(f"choice {bit}" for bit in range(CHOICE))),
    *("role mentioned", "role near pointer", "role right of pointer", "nearest role", "from the user", "from the last result", "age", "letters", "digits"),
    *("value used", *(f"initial {bit}" for bit in range(5))),
    *("last call failed", "steps used", "results"),
)
"""What each number in a row of the observation means. All are in [-1, 1]."""

WIDTHS = (7, 3 + CODE + 2 + CHOICE, 15, 3)
PAIR, FORM, VALUE, SHARED = (slice(sum(WIDTHS[:part]), sum(WIDTHS[: part + 1])) for part in range(4))
"""Where a row speaks of form and value together, of the form, of the value, and of the episode; ``WIDTHS`` are the widths."""
FAR = 8.0
"""Places, and results, beyond this distance look alike."""


def tool_code(name: str) -> NDArray[np.float32]:
    """Return the code of a tool: 16 numbers, each -1 or 1, the same for the same name everywhere."""
    return bits(name, CODE)


def bits(name: str, count: int) -> NDArray[np.float32]:
    """Return ``count`` numbers, each -1 or 1, from a hash of the name; ``count`` is a multiple of 8."""
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=count // 8).digest()
    return np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float32) * 2 - 1


def left_of(places: Sequence[int], place: int | None) -> int:
    """Return the last of the places before ``place``; -1 if there is none."""
    return -1 if place is None else max((position for position in places if position < place), default=-1)


def closest_left(spoken: Sequence[Sequence[int]], place: int | None) -> int:
    """Return the last place before ``place`` in any of the sequences; -1 if there is none."""
    return max((left_of(positions, place) for positions in spoken if positions), default=-1)


def place_of(memory: Memory, value: Value) -> int | None:
    """Return where the user speaks of a value: of itself, or of its role; None if nowhere."""
    return value.order - 1 if value.source == 0 and value.order else memory.place(value.role)


def nearness(verbs: Sequence[int], place: int | None) -> float:
    """Return 1 where one of the verbs is, falling to 0 at the distance ``FAR``; 0 without a place or a verb."""
    if not verbs or place is None:
        return 0.0
    return max(0.0, 1.0 - min(abs(place - verb) for verb in verbs) / FAR)


def value_features(memory: Memory, value: Value | None, place: int | None, nearest: int | None) -> tuple[float, ...]:
    """Return four features of the role, six of the value, and the five bits of its first letter (a is 1; 0 for no letter)."""
    if value is None:
        return (0.0,) * 15
    text = str(value.content)
    distance = None if place is None else place - memory.pointer
    near = 0.0 if distance is None or distance >= 0 else max(0.0, 1.0 + distance / FAR)
    latest = value.source == memory.results
    initial = ord(text[0].lower()) - 96 if text and text[0].isascii() and text[0].isalpha() else 0
    return (
        *(float(place is not None), near, float(distance is not None and distance > 0), float(latest and place is not None and place == nearest)),
        *(float(value.source == 0), float(latest), min(1.0, (memory.results - value.source) / FAR)),
        *(float(any(map(str.isalpha, text))), float(any(map(str.isdigit, text))), float(text in memory.used)),
        *(1.0 if initial >> bit & 1 else -1.0 for bit in range(5)),
    )
