"""``Reading``: parses the tokens that a model has written into its action."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from steptool_env.formats import CallFormat, read
from steptool_env.types import Action

__all__ = ["Answer", "Reading", "end_tokens"]


class Answer(NamedTuple):
    """What a model has written."""

    text: str
    """Its text, special tokens included, without an end-of-turn token at the end."""
    action: Action
    reasoning: str
    """The text before the call; all of it, if there is no call."""
    ended: bool
    """Whether the last token is an end-of-turn token."""


def end_tokens(config: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the ids of the end-of-turn tokens: those of the model's configuration and the tokenizer's."""
    eos = config.eos_token_id
    ids = eos if isinstance(eos, list) else [eos]
    return {token for token in (*ids, tokenizer.eos_token_id) if token is not None}


class Reading:
    """Turns token ids into text and actions.

    Args:
        tokenizer: The model's.
        call_format: How calls are written.
        ends: Ids of the end-of-turn tokens.
        opening: What the prompt writes behind the last message, see ``Prompts.opening``.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, call_format: CallFormat, ends: set[int], opening: str = "") -> None:
        self.tokenizer, self.call_format, self.ends, self.opening = tokenizer, call_format, ends, opening

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def answer(self, ids: Sequence[int], tools: str = "") -> Answer:
        """Read an action.

        Args:
            ids: At least one.
            tools: JSON list of the function schemas on offer, as in an observation.
        """
        ended = ids[-1] in self.ends
        text = self.text(ids[:-1] if ended else ids)
        found = read(self.call_format, text, prefix=self.opening, tools=_schemas(tools) if tools else ())
        return Answer(text, found.action, found.reasoning, ended)


@functools.lru_cache(64)
def _schemas(tools: str) -> tuple[Any, ...]:
    return tuple(json.loads(tools))
