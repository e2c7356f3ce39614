"""``Prompts``: a transcript as token ids, written piece by piece so that nothing is ever encoded twice.

``prompt`` gives the ids of the first observation; ``extend`` those of the messages that came in since the model's last
action. Between them stand the tokens that the model sampled, exactly as sampled (law 4: tokens in, tokens out).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from steptool_env.formats import CallFormat
from steptool_env.types import Message, Observation, ToolCall

__all__ = ["Prompts", "said"]


class Prompts(Protocol):
    """Writes observations for a model."""

    def prompt(self, observation: Observation) -> list[int]:
        """Return the ids of everything that the model sees before its first action."""
        ...

    def extend(self, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        """Return the ids of the messages that came after an action, up to where the next action begins.

        Args:
            messages: Tool results and what the user said next.
            tools: The tools on offer now, where they have changed since the last call; otherwise ``""``.
            ended: Whether the action's last token was the end-of-turn token.
        """
        ...


def said(message: Message, call_format: CallFormat) -> str:
    """Return an earlier action, which the transcript holds as JSON, as the model would write it; malformed text stays."""
    try:
        return call_format.render(ToolCall(**json.loads(message.content)))
    except (AttributeError, TypeError, ValueError):
        return message.content
