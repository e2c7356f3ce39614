"""``StopTexts``: where an action ends, seen token by token while it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

__all__ = ["StopTexts"]


class StopTexts:
    """Says whether the tokens written so far are a whole action: an end-of-turn token, or a stop text at their end.

    Args:
        tokenizer: The model's.
        texts: The call format's stop texts.
        ends: The end-of-turn tokens.
        decode: From token ids to text, special tokens included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], ends: set[int], decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        single = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        self._ids = ends | {ids[0] for ids in single if len(ids) == 1}
        self._texts = [text for text, ids in zip(texts, single, strict=True) if len(ids) > 1]
        self._tail = max((len(text.encode()) for text in self._texts), default=0)  # a token holds one byte at least
        self._may_stop: dict[int, bool] = {}
        """Whether a token can complete a stop text; filled as tokens turn up."""

    def __call__(self, ids: list[int]) -> bool:
        if ids[-1] in self._ids:
            return True
        if not self._texts or not self._can_complete(ids[-1]):
            return False
        tail = self._decode(ids[-self._tail :])
        return any(text in tail for text in self._texts)

    def _can_complete(self, token: int) -> bool:
        # Only a token that holds the last character of a stop text: for all others the tail need not be decoded. A part of
        # a character of several bytes decodes to the replacement character, and may be any of them.
        if token not in self._may_stop:
            piece = self._decode([token])
            self._may_stop[token] = any(text[-1] in piece for text in self._texts) or "\ufffd" in piece
        return self._may_stop[token]
