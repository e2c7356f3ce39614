"""The values that flow through the package. All are immutable; none needs a tool or a model.

The path of one datum: Task -> observation -> Action -> ToolResult -> Transition -> Outcome -> reward parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypedDict, TypeVar

from steptool_env.errors import InvalidArgument

__all__ = [
    "ERRORS",
    "PARTIES",
    "Action",
    "Malformed",
    "Message",
    "Observation",
    "Outcome",
    "Task",
    "ToolCall",
    "ToolResult",
    "Transition",
    "Unanswered",
    "as_chat",
    "new_tuple",
    "whose",
]

_T = TypeVar("_T")


class _NewTuple(Protocol):
    def __call__(self, kind: type[_T], values: tuple[Any, ...], /) -> _T: ...


new_tuple: _NewTuple = tuple.__new__  # type: ignore[assignment]  # typeshed ties the values to the kind
"""``new_tuple(Message, (role, content))`` is ``Message(role, content)`` without the Python function in between, at half the time: for what
every step makes. All values must be given, and nothing checks how many."""

_WHOSE = {
    "": "",
    "malformed": "model",  # no call
    "unknown_tool": "model",
    "bad_arguments": "model",
    "rejected": "model",  # a valid call of something that does not exist or is not allowed
    "over_budget": "model",
    "transient": "environment",  # down, too many requests, no answer in time: trying again can help
    "tool_failed": "author",  # an exception that the tool's author did not mean, a result that cannot be written as JSON
    "unavailable": "infrastructure",  # the step is masked and counted
}
ERRORS = tuple(_WHOSE)
"""Every value that ``ToolResult.error`` can take; ``""`` means that the call succeeded."""
PARTIES = ("model", "environment", "author", "infrastructure")
"""Whose fault an error can be."""


def whose(error: str) -> str:
    """Return whose fault a kind of error is, one of ``PARTIES``; ``""`` if there was no error. Who is at fault pays: only the model can learn from a price.

    >>> whose("bad_arguments"), whose("transient"), whose("tool_failed"), whose("unavailable")
    ('model', 'environment', 'author', 'infrastructure')
    """
    return _WHOSE[error]


class Message(NamedTuple):
    """One entry of the transcript. A tuple, so that observations share it without a copy."""

    role: str
    """``"user"``, ``"assistant"`` (the call, as JSON) or ``"tool"`` (its result)."""
    content: str


class Observation(TypedDict):
    """What the agent sees: the whole transcript, so that it is Markov, and the tools on offer."""

    messages: tuple[Message, ...]
    tools: str
    """A JSON list of function schemas (``{"type": "function", "function": {...}}``)."""


_NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


# Every step makes a call and a result. Their constructors write the slots directly: six tenths of the time of the generated ones, which
# go through ``object.__setattr__`` since the class refuses assignments.
@dataclass(frozen=True, slots=True, init=False)
class ToolCall:
    """One call of one tool; the unit of action."""

    name: str
    arguments: Mapping[str, Any]
    repaired: tuple[str, ...] = field(compare=False, repr=False)
    """Names of the slips in its text that its call format forgave, see ``steptool_env.REPAIRS``; no part of what is called."""

    def __init__(self, name: str, arguments: Mapping[str, Any] = _NO_ARGUMENTS, repaired: tuple[str, ...] = ()) -> None:
        _set_name(self, name)
        _set_arguments(self, {} if arguments is _NO_ARGUMENTS else arguments)
        _set_repaired(self, repaired)

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"name": str, "arguments": dict}``, as ``step`` takes it. The values of the arguments are not copied."""
        return {"name": self.name, "arguments": dict(self.arguments)}

    def as_json(self) -> str:
        """Return the same as JSON text; raises ``TypeError`` or ``ValueError`` if the arguments are not JSON."""
        return json.dumps(self.as_dict(), ensure_ascii=False)


_set_name, _set_arguments, _set_repaired = (vars(ToolCall)[name].__set__ for name in ("name", "arguments", "repaired"))


@dataclass(frozen=True, slots=True)
class Malformed:
    """An action that is not a call: its text, and why it could not be read."""

    text: str
    reason: str
    error: ClassVar[str] = "malformed"
    """What ``ToolResult.error`` will be."""


@dataclass(frozen=True, slots=True)
class Unanswered(Malformed):
    """No action, because what should have chosen it, such as a model server, gave no answer: nobody's mistake.

    The episode is cut short, and the step is masked: it earns nothing, good or bad.
    """

    error: ClassVar[str] = "unavailable"


Action: TypeAlias = ToolCall | Malformed
"""What an agent does in a step: a tool call, or text that is none."""


@dataclass(frozen=True, slots=True, init=False)
class ToolResult:
    """What came back from a call."""

    content: str
    error: str
    """One of ``ERRORS``; ``""`` if the call succeeded."""

    def __init__(self, content: str, error: str = "") -> None:
        _set_content(self, content)
        _set_error(self, error)


_set_content, _set_error = (vars(ToolResult)[name].__set__ for name in ("content", "error"))


@dataclass(frozen=True, slots=True)
class Task:
    """One problem for the agent. Whatever else a suite needs belongs in ``data``."""

    id: str
    instruction: str
    """What the agent is asked, verbatim."""
    tools: tuple[str, ...]
    """Names of the tools on offer, ``finish`` included."""
    max_steps: int
    data: Any = None
    """Private to the suite; never shown to the agent."""
    tags: Mapping[str, str | int] = field(default_factory=dict)
    """What evaluation groups by, for example ``{"family": "lookup", "depth": 3}``."""
    shows_budget: bool = False
    """Whether every result says how many calls are left; see ``steptool_env.tasks.wrapped.BudgetShown``."""

    def __post_init__(self) -> None:
        if isinstance(self.tools, str):
            raise InvalidArgument(f'task {self.id!r}: tools must be a tuple of names, got the text {self.tools!r}; write ({self.tools!r}, "finish")')
        if self.max_steps < 1:
            raise InvalidArgument(f"task {self.id!r}: max_steps must be 1 or more, got {self.max_steps!r}")
        for name, tag in self.tags.items():  # said here, and not when the first episode is written
            if not isinstance(name, str) or isinstance(tag, bool) or not isinstance(tag, str | int):
                raise InvalidArgument(f"task {self.id!r}: a tag has a name and is text or an integer, got {name!r}: {tag!r}; write it as one of these")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on an ended episode."""

    solved: float
    """In [0, 1]; 1.0 means solved."""
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.solved <= 1.0:
            raise InvalidArgument(f"Outcome.solved must be from 0 to 1, where 1 is solved, got {self.solved!r}; rewards of another size are a shaper's")


class Transition(NamedTuple):
    """One step: the unit of credit.

    A tuple, because the environment makes two of them at most steps: the step as it was executed, which the suite judges,
    and the one with the verdict and the progress, which takes its place. Two frozen dataclasses would cost more than the
    rest of the step. ``transition._replace(…)`` returns a changed copy.
    """

    task: Task
    step: int
    """Counted from 0."""
    action: Action
    result: ToolResult
    terminated: bool
    truncated: bool
    outcome: Outcome | None
    """Given at the last step only."""
    progress: float = 0.0
    """Progress in [0, 1] *after* this step; 0.0 throughout for suites without a measure."""
    progress_before: float = 0.0
    """Progress before this step, so that the gain needs no other transition."""
    tokens: int | None = None
    """Tokens that the policy wrote for this step, its reasoning included. An environment sees only the call, so this is None while an episode
    is played; ``hindsight`` of a shaper gets it, unless the policy samples no tokens."""


def as_chat(messages: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return the transcript as the list of ``{"role", "content"}`` dicts that chat templates take."""
    return [{"role": role, "content": content} for role, content in messages]
