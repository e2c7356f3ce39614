"""``Template``: the chat template of a tokenizer, its faults as errors that say what to do, and what it can write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from steptool_env.errors import InvalidArgument, NotSupported

__all__ = ["PROBE", "Template", "Turn"]

Turn = Mapping[str, Any]
"""One message, as chat templates take it."""

PROBE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
    },
}
"""The schema of a tool that is used to find out what a template does."""


class Template:
    """A chat template.

    Args:
        tokenizer: Has a chat template.
        options: Keywords of the template, such as ``{"enable_thinking": False}``.

    Raises:
        InvalidArgument: The template is not valid Jinja.
        NotSupported: It cannot even write a user's message.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any] | None = None) -> None:
        self.tokenizer, self.options = tokenizer, dict(options or {})
        bare = self.render([{"role": "user", "content": "Q"}])
        prompt = self.render([{"role": "user", "content": "Q"}], generation=True)
        self.opening = prompt[len(_common(bare, prompt)) :]
        """What the template writes where the model begins to write, such as ``<|im_start|>assistant\\n<think>\\n``."""
        self.has_system = self.can_write([{"role": "system", "content": "Q1Z"}, {"role": "user", "content": "Q"}], "Q1Z")
        """Whether it knows the role ``system``."""
        self.has_tools = self.can_write([{"role": "user", "content": "Q"}], "probe_tool", tools=[PROBE])
        """Whether it has a section for tools."""

    @property
    def name(self) -> str:
        """The model's name, for messages."""
        return str(getattr(self.tokenizer, "name_or_path", "") or "this tokenizer")

    def render(self, chat: Sequence[Turn], *, tools: Sequence[Mapping[str, Any]] | None = None, generation: bool = False) -> str:
        """Return the text of a conversation.

        Args:
            chat: The messages.
            tools: Function schemas for the section for tools.
            generation: Whether the text goes on to where the model begins to write.

        Raises:
            InvalidArgument: The template is not valid Jinja.
            NotSupported: The template refuses the conversation, or fails at it.
        """
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [dict(turn) for turn in chat],
                    tools=[dict(tool) for tool in tools] if tools else None,
                    add_generation_prompt=generation,
                    tokenize=False,
                    **self.options,
                )
            )
        except jinja2.TemplateSyntaxError as fault:
            raise InvalidArgument(f"the chat template of {self.name} is not valid Jinja: {fault} (line {fault.lineno}); mend it in the tokenizer") from fault
        except (jinja2.TemplateError, LookupError, TypeError, ValueError, AttributeError) as fault:
            roles = ", ".join(dict.fromkeys(f"{turn['role']}{' with tool calls' if turn.get('tool_calls') else ''}" for turn in chat))
            raise NotSupported(
                f"the chat template of {self.name} cannot write a conversation with the roles {roles}: {fault}; "
                "name a call format that is explained in text, such as call_format=hermes"
            ) from fault

    def can_write(self, chat: Sequence[Turn], text: str, *, tools: Sequence[Mapping[str, Any]] | None = None) -> bool:
        """Return whether the template writes a conversation without a fault, so that a text is in it."""
        try:
            return text in self.render(chat, tools=tools)
        except NotSupported:
            return False


def _common(one: str, other: str) -> str:
    """Return what two texts begin with, without the beginning of a control token that only one of them goes on with."""
    length = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one if length == len(one) else one[:length].rstrip("<|[")
