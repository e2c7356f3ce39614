"""The spaces: text of any length, transcripts, and tool calls whose samples are valid calls of the tools on offer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils.shared_memory import create_shared_memory

from steptool_env.errors import InvalidArgument
from steptool_env.foreign import is_a
from steptool_env.sampling import Sampler, random_text
from steptool_env.types import Malformed, Message, ToolCall

__all__ = ["TextSpace", "ToolCallSpace", "observation_space"]


class TextSpace(spaces.Space[str]):
    """All strings, Unicode included, of any length. Samples are short strings of lower-case letters and digits."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Return a random text."""
        return random_text(self.np_random)

    def contains(self, x: Any) -> bool:
        """Return whether this is a text."""
        return is_a(x, str)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return "TextSpace()"


class _MessageSpace(spaces.Tuple):  # type: ignore[type-arg]  # it takes none in Gymnasium 1.0
    """``(role, content)``. Samples are ``Message`` tuples, as the environment returns them."""

    def __init__(self) -> None:
        super().__init__((TextSpace(), TextSpace()))

    def sample(self, mask: Any = None, probability: Any = None) -> Message:
        role, content = super().sample()
        return Message(role, content)


class _TranscriptSpace(spaces.Sequence):
    """A tuple of messages."""

    def __init__(self) -> None:
        super().__init__(_MessageSpace())


@create_shared_memory.register(TextSpace)
@create_shared_memory.register(_TranscriptSpace)
def _refuse_shared_memory(space: Any, n: int = 1, ctx: Any = None) -> Any:
    # Loud and at the start. Gymnasium's shared memory for its own Text space returns the first text forever.
    raise InvalidArgument(
        "shared memory cannot hold text of any length: use gym.make_vec(..., vectorization_mode='async', vector_kwargs={'shared_memory': False}), "
        "AsyncVectorEnv(..., shared_memory=False), or vectorization_mode='sync'"
    )


def observation_space() -> spaces.Dict:
    """Return the space of observations: ``messages`` (the transcript) and ``tools`` (JSON function schemas)."""
    return spaces.Dict(messages=_TranscriptSpace(), tools=TextSpace())


class ToolCallSpace(spaces.Space[dict[str, Any]]):
    """All tool calls ``{"name": str, "arguments": {…}}``.

    The space contains every well-formed call, also of a tool that is not on offer: what is wrong with a call is for
    the environment to say, in an observation. ``sample`` draws a *valid* call: a tool on offer, with arguments from its
    JSON schema; text arguments are drawn from the values that the transcript has shown, where there are some that fit.
    Samples do not look at ``not``, ``contains`` and the conditional keywords.

    Args:
        schemas: Name of a tool on offer -> JSON schema of its arguments.
        seed: Seeds the samples.
    """

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]] | None = None, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._transcript: tuple[Message, ...] = ()
        self.offer(schemas or {})

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def offer(self, schemas: Mapping[str, Mapping[str, Any]], transcript: tuple[Message, ...] = ()) -> None:
        """Set the tools that samples call and the transcript from which they take their values."""
        self._schemas = dict(schemas)
        self._transcript = transcript

    def see(self, transcript: tuple[Message, ...]) -> None:
        """Set the transcript only; constant time."""
        self._transcript = transcript

    def sample(self, mask: Any = None, probability: Any = None) -> dict[str, Any]:
        """Return a random valid call of a tool on offer."""
        if not self._schemas:  # a space that no environment has filled yet
            return {"name": random_text(self.np_random), "arguments": {}}
        names = list(self._schemas)
        name = names[int(self.np_random.integers(len(names)))]
        draw = Sampler(self.np_random, _values(self._transcript), self._schemas[name])
        return {"name": name, "arguments": draw.arguments()}

    def contains(self, x: Any) -> bool:
        """Return whether this is a tool call, of whatever tool: a wrong one is answered by an observation."""
        if is_a(x, (ToolCall, Malformed)):
            return True
        try:
            name, arguments = x["name"], x["arguments"]
            return is_a(x, Mapping) and len(x) == 2 and is_a(name, str) and is_a(arguments, Mapping) and all(is_a(key, str) for key in arguments)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a foreign mapping may do anything
            return False

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return "ToolCallSpace()"


def _values(transcript: Iterable[Message]) -> list[str]:
    """Words of the instruction and scalar values of JSON results: what a call could sensibly pass on."""
    seen: dict[str, None] = {}
    for role, content in transcript:
        if role == "user":
            seen.update(dict.fromkeys(word.strip(".,;:!?\"'()") for word in content.split()))
        elif role == "tool":
            try:
                _scalars(json.loads(content), seen)
            except (ValueError, RecursionError):
                seen[content[:200]] = None
    seen.pop("", None)
    return list(seen)


def _scalars(value: Any, seen: dict[str, None], depth: int = 0) -> None:
    if depth > 20:
        return
    if isinstance(value, dict):
        for item in value.values():
            _scalars(item, seen, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _scalars(item, seen, depth + 1)
    elif isinstance(value, str):
        seen[value] = None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seen[str(value)] = None
