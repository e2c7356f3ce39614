"""Call formats: how models write tool calls. One file per format."""

from __future__ import annotations

from collections.abc import Callable

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.formats.base import CallFormat, Reading, read
from steptool_env.formats.hermes import Hermes
from steptool_env.formats.llama3 import Llama3
from steptool_env.formats.mistral import Mistral
from steptool_env.formats.openai import OpenAI
from steptool_env.formats.pythonic import Pythonic
from steptool_env.formats.react import ReAct

__all__ = ["FORMATS", "CallFormat", "Hermes", "Llama3", "Mistral", "OpenAI", "Pythonic", "ReAct", "Reading", "make_format", "read"]

FORMATS: dict[str, Callable[[], CallFormat]] = {
    "hermes": Hermes,
    "llama3": Llama3,
    "mistral": Mistral,
    "openai": OpenAI,
    "pythonic": Pythonic,
    "react": ReAct,
}
"""Name -> class of a call format."""


def make_format(call_format: str | CallFormat) -> CallFormat:
    """Return the call format of this name, or the object itself; raises ``UnknownName`` with what exists."""
    if isinstance(call_format, str):
        if call_format not in FORMATS:
            raise UnknownName("call format", call_format, FORMATS)
        return FORMATS[call_format]()
    if isinstance(call_format, type) or not isinstance(call_format, CallFormat):
        raise InvalidArgument(f"call_format must be a name or a CallFormat, got {call_format!r}; names: {', '.join(sorted(FORMATS))}")
    return call_format
