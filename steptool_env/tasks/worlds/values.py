"""Values: what attributes hold. Every kind is a table that a random number points into, so drawing one is cheap.

Attributes of the plain kinds are drawn with the world. Details (dates, measures, states) are functions of the task's name, the
id and the field, worked out when somebody looks: a world of hundreds of entities costs nothing until it is read.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import random
from collections.abc import Sequence

__all__ = ["DETAILS", "KINDS", "NAMES", "UNITS", "hashed", "is_options", "seeded", "table"]

NAMES = tuple(
    (
        "Ada Alma Amir Anna Aron Bela Bruno Carl Cleo Dana David Dora Edgar Elena Elias Emil Emma Erik Eva Felix Fiona Flora Frida Georg Greta "
        "Hana Hugo Ida Igor Ines Ivan Jana Jonas Julia Karim Karla Kira Lars Laura Leo Lena Liam Lina Luca Luis Maja Marco Maria Milan Mina "
        "Nadia Nico Nils Nora Olga Omar Oscar Otto Paula Petra Raul Rita Rosa Samir Sara Selma Simon Sofia Tara Theo Tomas Uma Vera Viktor Yara Zoe"
    ).split()
)

KINDS = ("name", "code", "amount")
"""Kinds of attribute: a first name; a code of four digits; an amount from 100 to 9999. All are hard to guess."""

UNITS: dict[str, tuple[str, int]] = {
    "kg": ("grams", 1000),
    "km": ("metres", 1000),
    "hours": ("minutes", 60),
    "minutes": ("seconds", 60),
    "litres": ("millilitres", 1000),
}
"""Unit of a measure -> the smaller unit that it may be asked for in, and how many of these it is."""

DETAILS = ("date", *UNITS)
"""Further kinds, for details: a date from 2015 to 2025; a whole number of some unit, 11 to 989. A detail may also be a choice
between states, written ``"new|paid|sent"``."""


def is_options(kind: str) -> bool:
    """Return whether a detail is a choice between states."""
    return "|" in kind


@functools.cache
def table(kind: str) -> Sequence[str | int]:
    """Return all values of a kind."""
    if kind == "name":
        return NAMES
    if kind == "amount":
        return range(100, 10_000)
    if kind == "code":
        return tuple(str(number) for number in range(1000, 10_000))
    if kind == "date":
        first = datetime.date(2015, 1, 1)
        return tuple((first + datetime.timedelta(days)).isoformat() for days in range(4018))
    if is_options(kind):
        return tuple(kind.split("|"))
    return tuple(f"{number} {kind}" for number in range(11, 990))


def hashed(*parts: str) -> int:
    """Return a number of 64 bits that depends on nothing but the parts."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "big")


def seeded(name: str) -> random.Random:
    """Return a generator that is seeded by a name: the same on every machine, in every process, for every hash seed."""
    return random.Random(hashed(name))
