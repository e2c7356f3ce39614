"""``Transcripts``: what a policy remembers of running episodes, so that each message is tokenized once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from steptool_env.errors import InvalidArgument
from steptool_env.types import Message, Observation

from ..chat.base import Prompts

__all__ = ["Transcript", "Transcripts"]

ENOUGH = 16
"""So many first observations that do not fit, and none that does, are taken for all."""


@dataclass(slots=True)
class Transcript:
    """One running episode, as far as it has been read."""

    messages: tuple[Message, ...] = ()
    tools: str = ""
    context: list[int] = field(default_factory=list)
    """Token ids that the model reads before its next action: first the whole prompt, later what came in since its last action."""
    length: int = 0
    """Number of tokens so far, actions included."""
    ended: bool = False
    """Whether its last action ended with the end-of-turn token."""
    new: bool = True
    """Whether ``context`` is the first that is read of the episode."""
    full: bool = False
    """The context window is full: the episode gets no further token, even if a shorter observation would fit again."""

    def record(self, ids: list[int], *, ended: bool) -> None:
        """Record the token ids of an action."""
        self.length += len(ids)
        self.ended = ended


class Transcripts:
    """The running episodes of a policy.

    Args:
        prompts: Writes observations for the model.
        room: Most tokens that an episode may have when an action begins; None: any number.
        model: How messages call the model.

    Raises:
        InvalidArgument: There is no room at all.
    """

    def __init__(self, prompts: Prompts, room: int | None, model: str = "the model") -> None:
        if room is not None and room < 1:
            raise InvalidArgument(f"{model}: its context ends {1 - room} tokens before an action of max_new_tokens could; choose fewer, or another model")
        self.prompts, self.room, self.model = prompts, room, model
        self._running: dict[Hashable, Transcript] = {}
        self._too_long: list[int] = []
        """Lengths of the first observations that did not fit, until one does."""
        self._some_fit = False

    def __getitem__(self, key: Hashable) -> Transcript:
        return self._running[key]

    def keys(self) -> list[Hashable]:
        """Return the keys of all running episodes."""
        return list(self._running)

    def read(self, key: Hashable, observation: Observation) -> Transcript:
        """Return the transcript of an episode with ``context`` for its next action.

        Args:
            key: Of the episode; two episodes may have equal transcripts.
            observation: If it does not continue the last one, the episode starts over.

        Raises:
            InvalidArgument: No episode fits into the context.
        """
        messages, tools = observation["messages"], observation["tools"]
        transcript = self._running.get(key)
        read = len(transcript.messages) + 1 if transcript is not None else 0  # the messages seen, and the action itself
        if transcript is None or len(messages) <= read or messages[: read - 1] != transcript.messages:
            transcript = self._running[key] = Transcript(context=self.prompts.prompt(observation))
        else:
            transcript.context = self.prompts.extend(messages[read - 1], messages[read:], tools if tools != transcript.tools else "", ended=transcript.ended)
            transcript.new = False
        transcript.messages, transcript.tools = messages, tools
        transcript.length += len(transcript.context)
        transcript.full = transcript.full or (self.room is not None and transcript.length > self.room)
        if transcript.new and not self._some_fit:
            self._check_room(transcript)
        return transcript

    def _check_room(self, transcript: Transcript) -> None:
        """One task that is too long is that task's matter; if all are, the model is the wrong one."""
        self._some_fit = not transcript.full
        if transcript.full:
            self._too_long.append(transcript.length)
        if len(self._too_long) >= ENOUGH:
            raise InvalidArgument(
                f"{self.model}: none of the first {ENOUGH} observations fits into the {self.room} tokens of its context that an action leaves; the "
                f"shortest has {min(self._too_long)}: choose a model with a longer context, fewer max_new_tokens, or tasks with fewer tools"
            )

    def drop(self, key: Hashable) -> None:
        """Forget an episode."""
        self._running.pop(key, None)

    def clear(self) -> None:
        """Forget all episodes."""
        self._running.clear()
