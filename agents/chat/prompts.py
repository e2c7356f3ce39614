"""``make_chat``: chooses how observations are written for a model, and in which form its calls are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from steptool_env.errors import NotSupported
from steptool_env.formats import CallFormat, make_format

from .base import Prompts
from .instructed import InstructedPrompts
from .native import NativeFormat, NativePrompts, native_form
from .plain import PlainPrompts
from .template import Template

__all__ = ["AUTO", "NATIVE", "Chat", "make_chat"]

AUTO, NATIVE = "auto", "native"
_FALLBACK = "hermes"


class Chat(NamedTuple):
    """How a model is talked to."""

    prompts: Prompts
    writes: CallFormat
    """How its calls are written, in demonstrations and in transcripts."""
    reads: CallFormat
    """How its answers are read."""


def make_chat(
    tokenizer: PreTrainedTokenizerBase,
    call_format: str | CallFormat = AUTO,
    *,
    style: str | None = None,
    options: Mapping[str, Any] | None = None,
    ends: Iterable[int] = (),
) -> Chat:
    """Return how observations are written for a model, and how its calls are written and read.

    Args:
        tokenizer: The model's.
        call_format: ``"native"``: the chat template's own words. ``"auto"``: the same where the template has a section for tools that can be
            used, else ``hermes``. A name of ``FORMATS`` or a ``CallFormat``: this form, explained in text.
        style: ``"terse"`` for ``tiny``.
        options: Keywords of the chat template, such as ``{"enable_thinking": False}``.
        ends: Ids of the end-of-turn tokens.

    Raises:
        InvalidArgument: The chat template is not valid Jinja.
        NotSupported: ``"native"`` was asked for, and the template writes no calls that can be read; or it cannot write a conversation at all.
    """
    chosen = call_format
    if style == "terse" or not tokenizer.chat_template:
        if chosen == NATIVE:
            raise NotSupported(f"call_format='native' needs a chat template, and {_name(tokenizer)} has none; 'auto' takes {_FALLBACK} then")
        form = make_format(_FALLBACK if chosen == AUTO else chosen)
        return Chat(PlainPrompts(tokenizer, form, terse=style == "terse"), form, form)
    template = Template(tokenizer, options)
    texts = [str(text) for text in tokenizer.convert_ids_to_tokens(sorted(ends)) if text is not None]
    if chosen in (AUTO, NATIVE) and (template.has_tools or chosen == NATIVE):
        found = native_form(template, [*texts, str(tokenizer.eos_token or "")])
        if found is not None:
            native = NativeFormat(template, found, [*texts, str(tokenizer.eos_token or "")])
            return Chat(NativePrompts(template, native), native, native.reader)
        if chosen == NATIVE:
            raise NotSupported(
                f"call_format='native': the chat template of {template.name} writes no calls that a call format reads back; name the form, such as {_FALLBACK}"
            )
    form = make_format(_FALLBACK if chosen in (AUTO, NATIVE) else chosen)
    return Chat(InstructedPrompts(template, form, texts), form, form)


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or "this tokenizer")
