"""``ChatPrompts``: for models with a chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from steptool_env.errors import NotSupported
from steptool_env.formats import CallFormat
from steptool_env.types import Message, Observation

from .base import render_action

__all__ = ["ChatPrompts"]


class ChatPrompts:
    """For models with a chat template: tools go into the template's own tool section if it has one that fits the call format, else into
    the call format's instructions.

    Raises:
        NotSupported: The template does not render a conversation as a prefix of its continuation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, call_format: CallFormat) -> None:
        self.tokenizer, self.call_format = tokenizer, call_format
        probe = {"type": "function", "function": {"name": "probe_tool", "description": "", "parameters": {"type": "object", "properties": {}}}}
        section = self._render([{"role": "user", "content": "x"}], tools=[probe])
        # The model would follow a tool section that teaches another call format.
        self.native_tools = "probe_tool" in section and any(text in section for text in call_format.stop)
        before, full = self._render_around("Q1Z", [{"role": "user", "content": "R2Z"}])
        if not full.startswith(before):
            raise NotSupported("this chat template rewrites earlier turns, so that a transcript is no prefix of its continuation")
        # What the template writes after an assistant's text: the end-of-turn token and perhaps a line break.
        self.closing = before[before.rindex("Q1Z") + 3 :]
        self.tool_role = self._knows_role("tool")

    def prompt(self, observation: Observation) -> list[int]:
        schemas = json.loads(observation["tools"])
        chat = [self._turn(message) for message in observation["messages"]]
        if self.native_tools:
            text = self._render(chat, tools=schemas, generation=True)
        else:
            text = self._render([{"role": "system", "content": self.call_format.instructions(schemas)}, *chat], generation=True)
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def extend(self, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        chat = [self._turn(message) for message in messages]
        if tools:
            # The tools join the user's next turn: some templates refuse two user turns in a row.
            instructions = self.call_format.instructions(json.loads(tools))
            if chat[-1]["role"] == "user":
                chat[-1]["content"] = f"{instructions}\n\n{chat[-1]['content']}"
            else:
                chat.append({"role": "user", "content": instructions})
        before, full = self._render_around("Q1Z", chat)
        closing = self.closing
        if ended:  # the model has written the end-of-turn token itself
            closing = closing.removeprefix(str(self.tokenizer.eos_token))
        return list(self.tokenizer.encode(closing + full[len(before) :], add_special_tokens=False))

    def _turn(self, message: Message) -> dict[str, str]:
        if message.role == "assistant":
            return {"role": "assistant", "content": render_action(message, self.call_format)}
        if message.role == "tool" and not self.tool_role:
            return {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
        return {"role": message.role, "content": message.content}

    def _render_around(self, answer: str, chat: Sequence[dict[str, str]]) -> tuple[str, str]:
        start = [{"role": "user", "content": "x"}, {"role": "assistant", "content": answer}]
        return self._render(start), self._render([*start, *chat], generation=True)

    def _knows_role(self, role: str) -> bool:
        try:
            _, full = self._render_around("Q1Z", [{"role": role, "content": "R2Z"}])
        except Exception:  # templates raise their own errors for roles that they do not know
            return False
        # Some templates write any role's name verbatim: the model has never seen such a turn.
        return "R2Z" in full and (f"{role}\n" not in full.split("Q1Z")[1] or "tool_response" in full)

    def _render(self, chat: Sequence[dict[str, str]], *, tools: list[Any] | None = None, generation: bool = False) -> str:
        return str(self.tokenizer.apply_chat_template(list(chat), tools=tools, add_generation_prompt=generation, tokenize=False))
