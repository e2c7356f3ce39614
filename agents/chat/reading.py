"""``Reading``: parses the tokens that a model has written into its action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steptool_env.formats import CallFormat
from steptool_env.types import Action

__all__ = ["Reading", "end_tokens"]


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
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, call_format: CallFormat, ends: set[int]) -> None:
        self.tokenizer, self.call_format, self.ends = tokenizer, call_format, ends

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def action(self, ids: Sequence[int], *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> tuple[str, Action, bool]:
        """Return the text of an action, the parsed action, and whether its last token is an end-of-turn token, which the text leaves out.

        Args:
            ids: At least one.
            prefix: What the prompt wrote behind the last message, such as an opened ``<think>``.
            tools: Function schemas of the tools on offer.
        """
        ended = ids[-1] in self.ends
        text = self.text(ids[:-1] if ended else ids)
        return text, self.call_format.parse(text, prefix=prefix, tools=tools), ended
