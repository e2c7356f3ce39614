"""``Prompts``: a transcript as token ids, written piece by piece so that nothing is ever encoded twice.

``prompt`` returns the ids of the first observation, ``extend`` those of the messages that came in since the model's last
action. Between them are the tokens that the model sampled, exactly as sampled: no text is tokenized a second time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from steptool_env.formats import CallFormat
from steptool_env.types import Message, Observation, ToolCall

__all__ = ["Prompts", "render_action"]


class Prompts(Protocol):
    """Writes observations as token ids."""

    def prompt(self, observation: Observation) -> list[int]:
        """Return the ids of everything that the model reads before its first action."""
        ...

    def extend(self, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        """Return the ids of the messages that came after an action, up to where the next action begins.

        Args:
            messages: Tool results, and what the user writes next.
            tools: JSON list of the function schemas on offer if they have changed since the last call; otherwise ``""``.
            ended: Whether the action's last token was the end-of-turn token.
        """
        ...


def render_action(message: Message, call_format: CallFormat) -> str:
    """Return an earlier action as the model would write it; the transcript holds it as JSON. Malformed text is returned unchanged."""
    try:
        return call_format.render(ToolCall(**json.loads(message.content)))
    except (AttributeError, RecursionError, TypeError, ValueError):
        return message.content
