"""Where an action ends, token by token."""

from __future__ import annotations

import pytest
from lms import tokenizer

from steptool_agents.generation.stop_texts import StopTexts

EOS = 1


def length(stop: StopTexts, ids: list[int]) -> int:
    """Return how many tokens are written until the action is over; 0 if it never is."""
    return next((count for count in range(1, len(ids) + 1) if stop(ids[:count])), 0)


def test_an_end_of_turn_token_ends_an_action_and_its_text_does_not() -> None:
    stop = StopTexts(tokenizer(), (), {EOS})
    words = tokenizer().encode("no call", add_special_tokens=False)
    assert length(stop, [*words, EOS, *words]) == len(words) + 1
    assert length(stop, tokenizer().encode("no call\nObservation", add_special_tokens=False)) == 0  # there is no stop text


@pytest.mark.parametrize("text", [">>", "é", "漢", "\nObservation"])
def test_the_first_token_that_completes_a_stop_text_ends_the_action(text: str) -> None:
    """Spelt letter by letter, and a character of several bytes by its bytes: only the last token completes it."""
    encode = tokenizer().encode
    stop = StopTexts(tokenizer(), (text, "never said"), {EOS})
    before = [token for letter in "call" for token in encode(letter, add_special_tokens=False)]
    spelt = [token for letter in text for token in encode(letter, add_special_tokens=False)]
    assert length(stop, [*before, *spelt, *before]) == len(before) + len(spelt)
    assert length(stop, [*before, *spelt[:-1]]) == 0
    assert stop.decode([*before, *spelt]) == "call" + text


def test_special_tokens_are_part_of_the_text() -> None:
    stop = StopTexts(tokenizer(), (), {EOS})
    assert stop.decode([EOS]) == tokenizer().convert_ids_to_tokens(EOS) != ""
