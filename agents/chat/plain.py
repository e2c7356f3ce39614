"""``PlainPrompts``: for models without a chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from steptool_env.formats import CallFormat
from steptool_env.types import Message, Observation, ToolCall

from .base import Written, render_action, render_call
from .control import ControlTokens

__all__ = ["PlainPrompts"]


class PlainPrompts:
    """For models without a chat template: a line per message.

    A prompt begins with the tokens that the tokenizer puts in front of every text, such as ``<bos>``: base models are lost without it.
    What tools and users write cannot begin a message: its further lines are indented, and in the terse form there are none.

    Args:
        tokenizer: The model's.
        call_format: How calls are written.
        terse: Only the names of the tools, no instructions: for models trained from scratch on exactly this form.
    """

    opening = ""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, call_format: CallFormat, *, terse: bool = False) -> None:
        self.tokenizer, self.call_format, self.terse = tokenizer, call_format, terse
        self.control = ControlTokens(tokenizer)
        self._start = [] if terse else _start(tokenizer)

    def prompt(self, observation: Observation) -> list[int]:
        return self._start + self.control.encode(f"{self._tools(observation['tools'])}\n" + "".join(map(self._message, observation["messages"])))

    def extend(self, action: Message, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        changed = f"{self._tools(tools)}\n" if tools else ""
        return self.control.encode("\n" + changed + "".join(map(self._message, messages)))

    def write(self, call: ToolCall) -> Written:
        return Written.of(render_call(call, self.call_format, self.control), self.call_format, self.control)

    def _tools(self, tools: str) -> str:
        schemas = self.control.hide(json.loads(tools))
        if not self.terse:
            return self.call_format.instructions(schemas)
        return "Tools: " + " ".join(schema["function"]["name"] for schema in schemas)

    def _message(self, message: Message) -> str:
        if message.role == "assistant":
            return f"{render_action(message, self.call_format, self.control)}\n"
        prefix = {"user": "Task: ", "tool": "" if self.terse else "Observation: "}.get(message.role, "")
        content = self.control.hide(message.content).replace("\n", " " if self.terse else "\n  ")
        return f"{prefix}{content}\n"


def _start(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that the tokenizer puts in front of a text."""
    whole, bare = (list(tokenizer.encode("a", add_special_tokens=special)) for special in (True, False))
    return next((whole[:place] for place in range(len(whole)) if whole[place : place + len(bare)] == bare), [])
