"""From what a model has written to its action."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lms import tokenizer

from steptool_agents.chat.reading import Reading, end_tokens
from steptool_env import Malformed, ToolCall, make_format

CALL = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(("configured", "expected"), [(7, {7, 1}), ([7, 8], {7, 8, 1}), (None, {1})])
def test_what_ends_a_turn(configured: object, expected: set[int]) -> None:
    assert tokenizer().eos_token_id == 1
    assert end_tokens(SimpleNamespace(eos_token_id=configured), tokenizer()) == expected


def test_an_action_with_and_without_the_end_of_its_turn() -> None:
    reading = Reading(tokenizer(), make_format("hermes"), {1})
    ids = tokenizer().encode(CALL, add_special_tokens=False)
    assert reading.answer(ids) == (CALL, ToolCall("look", {}), "", False)
    assert reading.answer([*ids, 1]) == (CALL, ToolCall("look", {}), "", True)
    answer = reading.answer([1])
    assert (answer.text, answer.ended) == ("", True)
    assert isinstance(answer.action, Malformed)


def test_reasoning_stands_apart() -> None:
    reading = Reading(tokenizer(), make_format("hermes"), {1})
    answer = reading.answer(tokenizer().encode(f"I look first. {CALL}", add_special_tokens=False))
    assert (answer.action, answer.reasoning) == (ToolCall("look", {}), "I look first.")


def test_special_tokens_are_part_of_the_text() -> None:
    assert Reading(tokenizer(), make_format("hermes"), {1}).text([1]) == tokenizer().convert_ids_to_tokens(1) != ""
