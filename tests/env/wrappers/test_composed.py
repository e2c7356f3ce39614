"""Answers that are no single value: joined, listed, reckoned."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steptool_env import ToolCall
from steptool_env.wrappers.composed import answers
from steptool_env.wrappers.notes import Item, Notes


def read(text: str, *steps: tuple[str, dict[str, Any]]) -> Notes:
    """Return the notes of an episode in which these values of the user were passed on, with these results."""
    notes = Notes()
    notes.hear(text)
    for passed, result in steps:
        focus = next(item for item in (*notes.latest, *notes.said) if str(item.content) == passed)
        notes.pass_on(ToolCall("get", {"id": passed}), focus, passed, "")
        notes.see(json.dumps(result))
    return notes


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        ("I need the price of drug J4.", [("J4", {"price": 12, "code": "77"})], ("12", None, None)),
        ("The phone of the store of drug J4?", [("J4", {"store": "S1", "price": 3}), ("S1", {"phone": "99", "name": "Ada"})], ("99", None, None)),
        (
            "Report the phone of client C1 and the code of invoice I2, in this order.",
            [("I2", {"code": "5", "phone": "8"}), ("C1", {"phone": "4", "code": "6"})],
            ("4, 5", None, "1"),
        ),
        ("Convert the length of visit B6 to seconds.", [("B6", {"length": "3 minutes"})], ("3 minutes", None, "180")),
        ("Which date is 31 days after the day of visit B6?", [("B6", {"day": "2020-02-01"})], ("2020-02-01", None, "2020-03-03")),
        ("Which date is 31 days before the day of visit B6?", [("B6", {"day": "2020-03-03"})], ("2020-03-03", None, "2020-02-01")),
        ("Which date is 99999999 days after the day of visit B6?", [("B6", {"day": "2020-03-03"})], ("2020-03-03", None, None)),
        (
            "How many days lie between the day of visit B6 and the birth of nurse N1?",
            [("N1", {"birth": "2020-01-31"}), ("B6", {"day": "2020-01-01"})],
            ("2020-01-01, 2020-01-31", None, "30"),
        ),
        (
            "By how much do the fee of visit B6 and the wage of nurse N1 differ?",
            [("N1", {"wage": 50}), ("B6", {"fee": 8})],
            ("8, 50", None, "42"),
        ),
        ("List the ids of all loans of adviser A1.", [("A1", {"loans": ["L1", "L2"], "page": 1, "pages": 2})], ("L1", "L1, L2", None)),
        ("Is visit B6 open?", [("B6", {"fee": 8})], (None, None, None)),
        ("The store of drug J4?", [("J4", {"store": None})], (None, None, None)),
    ],
)
def test_answers(text: str, steps: list[tuple[str, dict[str, Any]]], expected: tuple[str | None, ...]) -> None:
    assert tuple(answer and answer[0] for answer in answers(read(text, *steps))) == expected


def test_pages_are_put_together_and_a_new_list_is_not() -> None:
    notes = read("List the ids of all loans of adviser A1.", ("A1", {"loans": ["L1", "L2"], "page": 1, "pages": 2}))
    assert notes.listing is not None
    assert notes.listing.more
    notes.see(json.dumps({"loans": ["L3"], "page": 2, "pages": 2}))
    assert notes.listing.entries == ("L1", "L2", "L3")
    assert not notes.listing.more
    notes.see(json.dumps({"loans": ["L9"], "page": 1, "pages": 1}))
    assert notes.listing.entries == ("L9",)


def test_what_leads_on_comes_first_and_what_was_passed_on_last() -> None:
    notes = read("The phone of the store of drug J4?", ("J4", {"price": 3, "phone": "1", "store": "S1", "drug": "J4"}))
    assert [item.content for item in notes.latest] == ["S1", "1", 3, "J4"]
    first = notes.latest[0]
    assert isinstance(first, Item)
    assert (first.ahead, first.distance, notes.memory.words[first.place]) == (True, 3, "store")


def test_another_value_of_the_user_is_not_read_across() -> None:
    """In the record of C2, *name* is not what the user asks of C1."""
    notes = read("The name of client C1 and the phone of client C2.", ("C2", {"name": "Ada", "phone": "7"}))
    assert [(item.content, item.ahead) for item in notes.latest] == [("7", True), ("Ada", False)]


def test_a_new_message_asks_anew() -> None:
    notes = read("I need the price of drug J4.", ("J4", {"price": 12}))
    notes.hear("And the code of drug J5?")
    assert answers(notes) == (None, None, None)
    assert notes.said[0].content == "J5"


def test_failed_calls_are_noted_and_not_passed_on() -> None:
    notes = Notes()
    notes.hear("I need the price of drug J4.")
    notes.pass_on(ToolCall("get", {"id": "J4"}), notes.said[0], "key", "rejected")
    assert (notes.error, notes.tried, notes.used, notes.passed) == ("rejected", {"get": {"key": False}}, set(), None)
