"""``PlainPrompts``: for models without a chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from steptool_env.formats import CallFormat
from steptool_env.types import Message, Observation

from .base import render_action

__all__ = ["PlainPrompts"]


class PlainPrompts:
    """For models without a chat template.

    Args:
        tokenizer: The model's.
        call_format: How calls are written.
        terse: Only the names of the tools, no instructions: for models trained from scratch on exactly this form.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, call_format: CallFormat, *, terse: bool = False) -> None:
        self.tokenizer, self.call_format, self.terse = tokenizer, call_format, terse

    def prompt(self, observation: Observation) -> list[int]:
        return self._encode(f"{self._tools(observation['tools'])}\n" + "".join(map(self._message, observation["messages"])))

    def extend(self, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        changed = f"{self._tools(tools)}\n" if tools else ""
        return self._encode("\n" + changed + "".join(map(self._message, messages)))

    def _tools(self, tools: str) -> str:
        schemas = json.loads(tools)
        if not self.terse:
            return self.call_format.instructions(schemas)
        return "Tools: " + " ".join(schema["function"]["name"] for schema in schemas)

    def _message(self, message: Message) -> str:
        if message.role == "assistant":
            return f"{render_action(message, self.call_format)}\n"
        prefix = {"user": "Task: ", "tool": "" if self.terse else "Observation: "}.get(message.role, "")
        return f"{prefix}{message.content}\n"

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))
