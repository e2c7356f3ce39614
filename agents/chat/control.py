"""``ControlTokens``: text from tools and users is encoded so that none of it becomes a control token.

A result that says ``<|im_end|>`` must not end a turn. Rendered as a whole, the text of a conversation does not tell what the template wrote
from what others wrote. So the untrusted texts are rendered with placeholders in place of control tokens, and the placeholders are replaced
afterwards: by pieces of the token's text that are encoded apart, so that they cannot become the token. Text without control tokens is encoded
exactly as it would be without all this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

__all__ = ["ControlTokens"]

T = TypeVar("T")

_OPEN, _CLOSE = "\ue000", "\ue001"  # private use; where a text has them, they are replaced as well


class ControlTokens:
    """The control tokens of a vocabulary: all that were added to it, such as ``<|im_end|>`` or ``<tool_call>``.

    Args:
        tokenizer: The model's. Added tokens of one character, or of white space alone, are ordinary text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        added = {*tokenizer.get_added_vocab(), *map(str, tokenizer.all_special_tokens)}
        self.texts = [*sorted((text for text in added if len(text) > 1 and text.strip()), key=lambda text: (-len(text), text)), _OPEN, _CLOSE]
        self.ids = frozenset(int(token) for token in map(tokenizer.convert_tokens_to_ids, self.texts[:-2]) if isinstance(token, int))
        self._number = {text: number for number, text in enumerate(self.texts)}
        self._placeholder = re.compile(f"{_OPEN}({'|'.join(map(str, range(len(self.texts) - 1, -1, -1)))}){_CLOSE}")
        self._any = re.compile("|".join(map(re.escape, self.texts)))

    def hide(self, value: T) -> T:
        """Return a text, or a JSON value with all its texts and keys, with placeholders in place of control tokens."""
        hidden: Any = value
        if isinstance(value, str):
            hidden = self._any.sub(lambda found: f"{_OPEN}{self._number[found[0]]}{_CLOSE}", value)
        elif isinstance(value, Mapping):
            hidden = {self.hide(key): self.hide(one) for key, one in value.items()}
        elif isinstance(value, (list, tuple)):
            hidden = [self.hide(one) for one in value]
        return hidden  # type: ignore[no-any-return]

    def show(self, text: str) -> str:
        """Return the text with what the placeholders stand for."""
        return self._placeholder.sub(lambda found: self.texts[int(found[1])], text)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text with placeholders; what they stand for becomes ordinary tokens."""
        if _OPEN not in text:
            return self._ids(text)
        clean = [token for token in self._ids(self._placeholder.sub("", text)) if token in self.ids]
        for cut in (lambda hidden: [hidden[0], hidden[1:]], list):
            ids = [token for piece in self._pieces(text, cut) for token in self._ids(piece)]
            if [token for token in ids if token in self.ids] == clean:
                break
        return ids

    def _pieces(self, text: str, cut: Any) -> list[str]:
        """Return the text in pieces to be encoded apart: it is split within everything that is hidden."""
        parts = self._placeholder.split(text)  # text, number, text, number, …, text
        pieces = [parts[0]]
        for number, after in zip(parts[1::2], parts[2::2], strict=True):
            first, *others = cut(self.texts[int(number)])
            pieces[-1] += first
            pieces += others
            pieces[-1] += after
        return pieces

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []
