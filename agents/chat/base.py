"""``Prompts``: a transcript as token ids, written piece by piece so that nothing is ever encoded twice.

``prompt`` returns the ids of the first observation, ``extend`` those of the messages that came in since the model's last
action. Between them are the tokens that the model sampled, exactly as sampled: no text is tokenized a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from steptool_env.formats import CallFormat
from steptool_env.types import Message, Observation, ToolCall

from ..trajectory.messages import earlier_call
from .control import ControlTokens

__all__ = ["Prompts", "Written", "render_action", "render_call"]


class Written(NamedTuple):
    """A call as the model has to write it."""

    text: str
    ids: list[int]
    ended: bool
    """Whether the last id is an end-of-turn token, which the text leaves out."""

    @classmethod
    def of(cls, text: str, call_format: CallFormat, control: ControlTokens) -> Written:
        """Return an action, with an end-of-turn token unless the form's calls end with their own stop text.

        Args:
            text: May hold placeholders.
            call_format: The form.
            control: Encodes it.
        """
        ended = not call_format.render(ToolCall("f")).endswith(tuple(call_format.stop))
        return cls(control.show(text), [*control.encode(text), *[int(control.tokenizer.eos_token_id)] * ended], ended)


class Prompts(Protocol):
    """Writes observations as token ids."""

    opening: str
    """What stands between the last message and what the model writes, such as ``<|im_start|>assistant\\n<think>\\n``."""
    control: ControlTokens

    def prompt(self, observation: Observation) -> list[int]:
        """Return the ids of everything that the model reads before its first action."""
        ...

    def extend(self, action: Message, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        """Return the ids of the messages that came after an action, up to where the next action begins.

        Args:
            action: The action, as the transcript holds it.
            messages: Tool results, and what the user writes next.
            tools: JSON list of the function schemas on offer if they have changed since the last call; otherwise ``""``.
            ended: Whether the action's last token was an end-of-turn token.
        """
        ...

    def write(self, call: ToolCall) -> Written:
        """Return a call as the model has to write it at the end of a prompt."""
        ...


def render_action(message: Message, call_format: CallFormat, control: ControlTokens) -> str:
    """Return an earlier action as the model would write it, with placeholders for control tokens; the transcript holds it as JSON.

    What is no call, or cannot be written in this form, is returned as it is.
    """
    call = earlier_call(message)
    try:
        return render_call(call, call_format, control) if call is not None else control.hide(message.content)
    except (RecursionError, TypeError, ValueError):
        return control.hide(message.content)


def render_call(call: ToolCall, call_format: CallFormat, control: ControlTokens) -> str:
    """Return the text of a call, with placeholders for control tokens in its name and arguments: those of the form itself stay."""
    return call_format.render(ToolCall(control.hide(call.name), control.hide(call.arguments)))
