"""``Transcripts``: what a policy remembers of running episodes, so that each message is written as tokens once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from steptool_env.types import Message, Observation

from ..chat.base import Prompts

__all__ = ["Transcript", "Transcripts"]


@dataclass(slots=True)
class Transcript:
    """One running episode, as far as it has been read."""

    messages: tuple[Message, ...] = ()
    tools: str = ""
    context: list[int] = field(default_factory=list)
    """What the model reads before its next action: the whole prompt at first, later what came in since its last action."""
    length: int = 0
    """Tokens so far, actions included."""
    ended: bool = False
    """Whether its last action ended with the end-of-turn token."""
    new: bool = True
    """Whether nothing of it had been read before ``context``."""
    full: bool = False
    """The context window is used up: the episode gets no further token, also if a shorter observation would fit again."""

    def said(self, ids: list[int], *, ended: bool) -> None:
        """Take down an action."""
        self.length += len(ids)
        self.ended = ended


class Transcripts:
    """The running episodes of a policy.

    Args:
        prompts: Writes observations for the model.
        room: Most tokens that an episode may have before an action.
    """

    def __init__(self, prompts: Prompts, room: int) -> None:
        self.prompts, self.room = prompts, room
        self._running: dict[Hashable, Transcript] = {}

    def __getitem__(self, key: Hashable) -> Transcript:
        return self._running[key]

    def keys(self) -> list[Hashable]:
        """Return the keys of all running episodes."""
        return list(self._running)

    def read(self, key: Hashable, observation: Observation) -> Transcript:
        """Return the transcript of an episode with ``context`` for its next action.

        Args:
            key: Of the episode; two episodes may have equal transcripts.
            observation: One that does not go on from the last one begins the episode anew.
        """
        messages, tools = observation["messages"], observation["tools"]
        known = self._running.get(key)
        read = len(known.messages) + 1 if known is not None else 0  # the messages seen, and the action itself
        if known is None or len(messages) <= read or messages[: read - 1] != known.messages:
            known = self._running[key] = Transcript(context=self.prompts.prompt(observation))
        else:
            known.context = self.prompts.extend(messages[read:], tools if tools != known.tools else "", ended=known.ended)
            known.new = False
        known.messages, known.tools = messages, tools
        known.length += len(known.context)
        known.full = known.full or known.length > self.room
        return known

    def drop(self, key: Hashable) -> None:
        """Forget an episode."""
        self._running.pop(key, None)

    def clear(self) -> None:
        """Forget all episodes."""
        self._running.clear()
