"""``Reading``: from the tokens that a model has written to its action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steptool_env.formats import CallFormat
from steptool_env.types import Action

__all__ = ["Reading", "end_tokens"]


def end_tokens(config: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end a turn: those of the model's configuration, and the tokenizer's."""
    eos = config.eos_token_id
    found = eos if isinstance(eos, list) else [eos]
    return {token for token in (*found, tokenizer.eos_token_id) if token is not None}


class Reading:
    """Reads what a model has written.

    Args:
        tokenizer: The model's.
        call_format: How calls are written.
        ends: The tokens that end a turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, call_format: CallFormat, ends: set[int]) -> None:
        self.tokenizer, self.call_format, self.ends = tokenizer, call_format, ends

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def action(self, ids: Sequence[int]) -> tuple[str, Action, bool]:
        """Return an action's text, what it says, and whether its last token ends the turn, which is no part of the text."""
        ended = ids[-1] in self.ends
        text = self.text(ids[:-1] if ended else ids)
        return text, self.call_format.parse(text), ended
