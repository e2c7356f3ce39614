"""Calls as the user asks for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steptool_env import Tool, ToolCall
from steptool_env.wrappers.asked import Asked, Plan, bind_again, bind_asked, what_speaks
from steptool_env.wrappers.notes import Item, Notes

TEXT, STATES = {"type": "string"}, {"type": "string", "enum": ["new", "paid"]}


def tool(required: list[str], **properties: Any) -> Tool:
    return Tool("use_it", "", {"type": "object", "properties": properties, "required": required, "additionalProperties": False}, lambda **given: "")


MOVE = tool(["driver_id", "new_depot"], driver_id=TEXT, new_depot=TEXT)


def bound(used: Tool, text: str, focus: str | None, result: dict[str, Any] | None = None) -> tuple[dict[str, Any], float] | None:
    notes = Notes()
    notes.hear(text)
    if result is not None:
        notes.pass_on(ToolCall("get", {"id": str(notes.said[0].content)}), notes.said[0], "", "")
        notes.see(json.dumps(result))
    items: list[Item] = [*notes.latest, *notes.said]
    asked = Asked.of(Plan.of(used), notes)
    place = None if focus is None else [str(item.content) for item in items].index(focus)
    return bind_asked(asked, place, items, what_speaks(asked, items), notes.used)


@pytest.mark.parametrize(
    ("used", "text", "focus", "result", "expected"),
    [
        (tool(["drug_id"], drug_id=TEXT), "The price of drug J4", "J4", None, {"drug_id": "J4"}),
        (tool(["drug_id"], drug_id=TEXT), "The price of drug J4", None, None, None),
        (tool(["drug_id"], drug_id=TEXT), "The store of drug J4", "None", {"store": None}, None),
        (tool(["drug_id"], drug_id=TEXT), "The store of drug J4", "True", {"open": True}, None),
        (tool([]), "Wait", None, None, {}),
        (tool([]), "The price of drug J4", "J4", None, None),
        # the value goes where the other one does not belong
        (MOVE, "Move driver D9 to the end of R4", "E5", {"end": "E5"}, {"driver_id": "D9", "new_depot": "E5"}),
        (MOVE, "Move driver D9 to depot E5", "D9", None, {"driver_id": "D9", "new_depot": "E5"}),
        (MOVE, "Move driver D9", "D9", None, None),
        # optional arguments only if the user names them
        (tool([], payer=TEXT, payee=TEXT, state=STATES), "Invoices with the firm F1 as payer and paid as state", "F1", None, {"payer": "F1", "state": "paid"}),
        (tool([], payer=TEXT, state=STATES), "Invoices that are paid, of firm F1 as payer", "F1", None, {"payer": "F1"}),
        (tool(["state"], state=STATES, payer=TEXT), "Something else", None, None, {"state": "new"}),
        (tool(["n"], n={"type": "integer"}), "Add 4 to it", "4", None, {"n": 4}),
        (tool(["n"], n={"type": "integer", "maximum": 3}), "Add 4 to it", "4", None, None),
    ],
)
def test_bound(used: Tool, text: str, focus: str | None, result: dict[str, Any] | None, expected: dict[str, Any] | None) -> None:
    made = bound(used, text, focus, result)
    assert (made and made[0]) == expected


def test_what_speaks_for_a_call_is_what_speaks_for_its_weakest_argument() -> None:
    good, bad = bound(MOVE, "Move driver D9 to depot E5", "E5"), bound(MOVE, "Move driver D9 to the end of route R4", "R4")
    assert good is not None
    assert bad is not None
    assert good[1] == 1.0
    assert bad[1] < 0.6


def test_descriptions_speak_for_values() -> None:
    described = tool(["keeper"], keeper={"type": "string", "description": "The id of a janitor."})
    made = bound(described, "All rooms of janitor J4", "J4")
    assert made == ({"keeper": "J4"}, 0.8)


def test_the_next_page() -> None:
    lister = Tool("list", "", {"type": "object", "properties": {"page": {"type": "integer"}, "of": TEXT}}, lambda **given: "")
    notes = Notes()
    notes.hear("All of A1")
    asked = Asked.of(Plan.of(lister), notes)
    assert bind_again(asked, notes) is None
    notes.pass_on(ToolCall("list", {"of": "A1"}), notes.said[0], "", "")
    notes.see('{"entries": ["B1"], "page": 1, "pages": 2}')
    assert bind_again(asked, notes) == {"of": "A1", "page": 2}
    assert bind_again(Asked.of(Plan.of(tool([])), notes), notes) is None
