"""``StopTexts``: detects the end of an action while it is written, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

__all__ = ["StopTexts"]


class StopTexts:
    """Tells whether the tokens written so far are a whole action: they end with an end-of-turn token or a stop text.

    Args:
        tokenizer: The model's.
        texts: The call format's stop texts.
        ends: The end-of-turn tokens.
        decode: From token ids to text, special tokens included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], ends: set[int], decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        encoded = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        self._ids = ends | {ids[0] for ids in encoded if len(ids) == 1}
        self._texts = [text for text, ids in zip(texts, encoded, strict=True) if len(ids) > 1]
        self._tail = max((len(text.encode()) for text in self._texts), default=0)  # a token holds at least one byte
        self._may_stop: dict[int, bool] = {}
        """Whether a token can complete a stop text; filled as tokens occur."""

    def __call__(self, ids: list[int]) -> bool:
        if ids[-1] in self._ids:
            return True
        if not self._texts or not self._can_complete(ids[-1]):
            return False
        tail = self._decode(ids[-self._tail :])
        return any(text in tail for text in self._texts)

    def _can_complete(self, token: int) -> bool:
        # Only a token that holds the last character of a stop text can: for all others the tail need not be decoded. A part of
        # a multi-byte character decodes to the replacement character, and may belong to any character.
        if token not in self._may_stop:
            piece = self._decode([token])
            self._may_stop[token] = any(text[-1] in piece for text in self._texts) or "\ufffd" in piece
        return self._may_stop[token]
