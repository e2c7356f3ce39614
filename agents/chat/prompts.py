"""Chooses the form of prompts that fits a model."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from steptool_env.formats import CallFormat

from .base import Prompts
from .plain import PlainPrompts
from .templates import ChatPrompts

__all__ = ["make_prompts"]


def make_prompts(tokenizer: PreTrainedTokenizerBase, call_format: CallFormat, style: str | None = None) -> Prompts:
    """Return the prompt writer that fits a model.

    Args:
        tokenizer: The model's.
        call_format: How calls are written.
        style: ``"terse"`` for ``tiny``; None chooses by whether the tokenizer has a chat template.
    """
    if style == "terse":
        return PlainPrompts(tokenizer, call_format, terse=True)
    return ChatPrompts(tokenizer, call_format) if tokenizer.chat_template else PlainPrompts(tokenizer, call_format)
