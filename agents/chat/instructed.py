"""``InstructedPrompts``: a chat template, and a call format that is explained in text.

For templates without a section for tools, and for formats that the user has chosen. The instructions stand in the system message, or
where the template knows none, before the first message of the user; calls are the assistant's text, results are turns of the user. So
the model is taught exactly the form in which its answers are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from steptool_env.errors import NotSupported
from steptool_env.formats import CallFormat, left_open
from steptool_env.types import Message, Observation, ToolCall

from .base import Written, render_action, render_call
from .control import ControlTokens
from .template import Template

__all__ = ["InstructedPrompts", "alternating", "behind", "with_tools"]

_ANSWER = "Q1Z"
"""Stands for the action where only what comes behind it is wanted."""


class InstructedPrompts:
    """Observations in a chat template, with tools explained in a call format's own words.

    Args:
        template: The model's.
        call_format: How calls are written.
        ends: Texts of end-of-turn tokens besides the tokenizer's own.

    Raises:
        NotSupported: The template does not write what the assistant says.
    """

    def __init__(self, template: Template, call_format: CallFormat, ends: Sequence[str] = ()) -> None:
        self.template, self.call_format, self.opening = template, call_format, template.opening
        self.control = ControlTokens(template.tokenizer)
        self.ends = [str(template.tokenizer.eos_token or ""), *ends]
        if not template.can_write([{"role": "user", "content": "x"}, {"role": "assistant", "content": _ANSWER}, {"role": "user", "content": "y"}], _ANSWER):
            raise NotSupported(f"the chat template of {template.name} leaves out what the assistant has said, or takes no plain text; give it another")

    def prompt(self, observation: Observation) -> list[int]:
        instructions = self.call_format.instructions(self.control.hide(json.loads(observation["tools"])))
        chat = [self._turn(message) for message in observation["messages"]]
        if self.template.has_system:
            chat.insert(0, {"role": "system", "content": instructions})
        else:
            chat[0] = {"role": chat[0]["role"], "content": f"{instructions}\n\n{chat[0]['content']}"}
        return self.control.encode(self.template.render(alternating(chat), generation=True))

    def extend(self, action: Message, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        chat = [self._turn(message) for message in messages]
        if tools:
            chat = with_tools(chat, self.call_format.instructions(self.control.hide(json.loads(tools))))
        start = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _ANSWER}]
        text = self.template.render([*start, *alternating(chat)], generation=True)
        return self.control.encode(behind(text[text.rindex(_ANSWER) + len(_ANSWER) :], self.ends, ended=ended))

    def write(self, call: ToolCall) -> Written:
        # A model whose reasoning the template has begun ends it first.
        reasoned = "</think>\n\n" if left_open(self.opening) else ""
        return Written.of(reasoned + render_call(call, self.call_format, self.control), self.call_format, self.control)

    def _turn(self, message: Message) -> dict[str, str]:
        if message.role == "assistant":
            return {"role": "assistant", "content": render_action(message, self.call_format, self.control)}
        content = self.control.hide(message.content)
        if message.role == "tool":
            return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
        return {"role": message.role, "content": content}


def behind(text: str, ends: Sequence[str], *, ended: bool, stops: Sequence[str] = (), within_call: bool = False) -> str:
    """Return what is still to be written behind an action, of what a template writes behind a mark in its turn.

    Args:
        text: What the template writes there: perhaps the end of the call, the end of the turn, and the messages that follow.
        ends: Texts of the end-of-turn tokens.
        ended: Whether the model has written an end-of-turn token itself.
        stops: Texts at which the model stops within its turn.
        within_call: Whether the mark stands within a call, whose end the model has written.
    """
    stop = min((place + len(stop) for stop in stops if (place := text.find(stop)) >= 0), default=None)
    end = min(((place, place + len(end)) for end in ends if end and (place := text.find(end, stop or 0)) >= 0), default=None)
    if ended and end is not None:
        return text[end[1] :]
    if within_call and stop is None and end is not None:
        return text[end[0] :]
    return text[stop or 0 :]


def with_tools(chat: list[dict[str, str]], text: str) -> list[dict[str, str]]:
    """Return the messages with the tools that are on offer from now on in the user's next message, or in one of its own."""
    *before, last = chat
    if last["role"] == "user":
        return [*before, {"role": "user", "content": f"{text}\n\n{last['content']}"}]
    return [*chat, {"role": "user", "content": text}]


def alternating(chat: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the messages with several of the user in a row joined into one: some templates refuse them."""
    joined: list[dict[str, str]] = []
    for turn in chat:
        if joined and turn["role"] == joined[-1]["role"] == "user":
            joined[-1] = {**turn, "content": f"{joined[-1]['content']}\n\n{turn['content']}"}
        else:
            joined.append(turn)
    return joined
