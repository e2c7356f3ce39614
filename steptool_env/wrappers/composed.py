"""Answers that are no single value of the transcript: what was asked for, joined; the entries of a list; what the user asks to reckon.

A policy of numbers cannot write, so the catalog of the compact form writes for it what the text names.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from steptool_env.wrappers.notes import Item, Notes

__all__ = ["ANSWERS", "answers"]

ANSWERS = ("asked", "listed", "reckoned")
"""The composed answers, in the order of their actions."""

UNITS = {
    ("kg", "grams"): 1000,
    ("km", "metres"): 1000,
    ("hours", "minutes"): 60,
    ("minutes", "seconds"): 60,
    ("hours", "seconds"): 3600,
    ("days", "hours"): 24,
    ("litres", "millilitres"): 1000,
}
"""(unit, smaller unit) -> how many of these it is."""


def answers(notes: Notes) -> tuple[tuple[str, int] | None, ...]:
    """Return each of ``ANSWERS`` with the number of values in it; None where there is none now.

    - ``asked``: the fields that led on and were not passed on, in the order in which the user asks for them.
    - ``listed``: the entries of the latest list, over all pages that were read.
    - ``reckoned``: of what was asked, a measure in the unit that the user names, a date so many days later or earlier,
      the days between two dates, or the difference of two numbers.
    """
    found = {item.place: item for item in notes.leads if item.content is not None and str(item.content) not in notes.used}
    asked = [found[place] for place in sorted(found)]
    texts = [str(item.content) for item in asked]
    entries = notes.listing.entries if notes.listing else ()
    reckoned = _reckon(texts, notes) if texts else None
    return (
        (", ".join(texts), len(texts)) if texts else None,
        (", ".join(entries), len(entries)) if entries else None,
        (reckoned, len(texts)) if reckoned else None,
    )


def _reckon(texts: Sequence[str], notes: Notes) -> str | None:
    dates = [date for text in texts if (date := _date(text)) is not None]
    if len(texts) == 2:
        if len(dates) == 2:
            return str(abs((dates[0] - dates[1]).days))
        return str(abs(int(texts[0]) - int(texts[1]))) if all(map(_whole, texts)) else None
    if len(texts) != 1:
        return None
    if dates:
        shift = _days(notes.said, notes)
        try:
            return (dates[0] + datetime.timedelta(shift)).isoformat() if shift else None
        except OverflowError:
            return None
    number, _, unit = texts[0].partition(" ")
    smaller = next((factor for (large, small), factor in UNITS.items() if large == unit and small in notes.memory.places), None)
    return str(int(number) * smaller) if smaller and _whole(number) else None


def _days(said: Sequence[Item], notes: Notes) -> int | None:
    """Return the whole number that the user says before the word *days*; negative if *before* or *earlier* follows."""
    words = notes.memory.words
    for item in said:
        if _whole(str(item.content)) and item.place >= 0 and words[item.place + 1 : item.place + 2] == ["days"]:
            return -int(item.content) if {"before", "earlier", "back"} & set(words[item.place + 2 : item.place + 4]) else int(item.content)  # type: ignore[arg-type]
    return None


def _date(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        return None


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
