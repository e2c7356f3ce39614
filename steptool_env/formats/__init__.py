"""Call formats: how models write tool calls. One file per format, or per family whose members differ in their marks only."""

from __future__ import annotations

from collections.abc import Callable

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.formats.base import CallFormat, Form, Reading, Scan, read
from steptool_env.formats.calls import REPAIRS
from steptool_env.formats.gemma import Gemma
from steptool_env.formats.hermes import Hermes
from steptool_env.formats.lists import Granite, Xlam
from steptool_env.formats.llama3 import Llama3
from steptool_env.formats.mistral import Mistral, MistralV11
from steptool_env.formats.named import DeepSeek, Harmony, Kimi
from steptool_env.formats.openai import OpenAI
from steptool_env.formats.parameters import GLM, MiniMax, Qwen3Coder
from steptool_env.formats.pythonic import Olmo3, Pythonic
from steptool_env.formats.react import ReAct
from steptool_env.formats.reasoning import left_open
from steptool_env.formats.toolcheck import check_tools

__all__ = [
    "FORMATS",
    "GLM",
    "REPAIRS",
    "CallFormat",
    "DeepSeek",
    "Form",
    "Gemma",
    "Granite",
    "Harmony",
    "Hermes",
    "Kimi",
    "Llama3",
    "MiniMax",
    "Mistral",
    "MistralV11",
    "Olmo3",
    "OpenAI",
    "Pythonic",
    "Qwen3Coder",
    "ReAct",
    "Reading",
    "Scan",
    "Xlam",
    "check_tools",
    "left_open",
    "make_format",
    "read",
]

FORMATS: dict[str, Callable[[], CallFormat]] = {
    "deepseek": DeepSeek,
    "gemma": Gemma,
    "glm": GLM,
    "granite": Granite,
    "harmony": Harmony,
    "hermes": Hermes,
    "kimi": Kimi,
    "llama3": Llama3,
    "minimax": MiniMax,
    "mistral": Mistral,
    "mistral-v11": MistralV11,
    "olmo3": Olmo3,
    "openai": OpenAI,
    "pythonic": Pythonic,
    "qwen3-coder": Qwen3Coder,
    "react": ReAct,
    "xlam": Xlam,
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
