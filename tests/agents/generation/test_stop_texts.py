"""Where an action ends, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from lms import tokenizer

from steptool_agents.chat.reading import Reading
from steptool_agents.generation.stop_texts import StopTexts
from steptool_env.formats import make_format

EOS = 1


def decode(ids: Sequence[int]) -> str:
    return Reading(tokenizer(), make_format("hermes"), {EOS}).text(ids)


def length(stop: StopTexts, ids: list[int]) -> int:
    """Return how many tokens are written until the action is over; 0 if it never is."""
    return next((count for count in range(1, len(ids) + 1) if stop(ids[:count])), 0)


def test_an_end_of_turn_token_ends_an_action_and_its_text_does_not() -> None:
    stop = StopTexts(tokenizer(), (), {EOS}, decode)
    words = tokenizer().encode("no call", add_special_tokens=False)
    assert length(stop, [*words, EOS, *words]) == len(words) + 1
    assert length(stop, tokenizer().encode("no call\nObservation", add_special_tokens=False)) == 0  # there is no stop text


@pytest.mark.parametrize("text", [">>", "é", "漢", "\nObservation"])
def test_the_first_token_that_completes_a_stop_text_ends_the_action(text: str) -> None:
    """Spelt letter by letter, and a character of several bytes by its bytes: only the last token completes it."""
    encode = tokenizer().encode
    stop = StopTexts(tokenizer(), (text, "never said"), {EOS}, decode)
    before = [token for letter in "call" for token in encode(letter, add_special_tokens=False)]
    spelt = [token for letter in text for token in encode(letter, add_special_tokens=False)]
    assert length(stop, [*before, *spelt, *before]) == len(before) + len(spelt)
    assert length(stop, [*before, *spelt[:-1]]) == 0
    assert decode([*before, *spelt]) == "call" + text
