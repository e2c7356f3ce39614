"""``TaskSuite`` and ``Episode``: what a source of tasks provides, and what it is asked about."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any, overload

from steptool_env.errors import InvalidArgument, NotSupported
from steptool_env.html import episode_body, fragment, shown_step
from steptool_env.tools.toolkit import Toolkit
from steptool_env.types import Message, Outcome, Task, ToolCall, Transition
from steptool_env.words import counted, ended

__all__ = ["Episode", "TaskSuite"]


class Episode(Sequence[Transition]):
    """One episode so far: a sequence of its transitions, with the task, the live toolkit and the transcript.

    ``memory`` is where stateful shapers keep what they carry from step to step (``steptool_env.rewards.base.Stateful``).
    """

    __slots__ = ("memory", "messages", "task", "toolkit", "transitions")

    def __init__(self, task: Task, toolkit: Toolkit, transitions: list[Transition] | None = None) -> None:
        self.task = task
        self.toolkit = toolkit
        self.transitions: list[Transition] = [] if transitions is None else transitions
        self.messages: tuple[Message, ...] = (Message("user", task.instruction),)
        self.memory: dict[Any, Any] = {}

    @overload
    def __getitem__(self, index: int) -> Transition: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Transition]: ...
    def __getitem__(self, index: int | slice) -> Transition | Sequence[Transition]:
        return self.transitions[index]

    def __len__(self) -> int:
        return len(self.transitions)

    def _repr_html_(self) -> str:
        steps = [shown_step(transition.action, transition.result) for transition in self]
        outcome = self[-1].outcome if len(self) else None
        end = f"{ended(outcome)}. {counted(len(self), 'call')}." if outcome is not None else ""
        return fragment(self.task.id, episode_body(self.task.instruction, steps, end, solved=outcome is not None and outcome.solved >= 1.0, most=60))


class TaskSuite(abc.ABC):
    """An immutable, sized collection of tasks that can be graded.

    A suite is shared between environments, so it holds nothing that an episode changes: what changes lives in the
    ``Toolkit`` that ``toolkit(task)`` makes anew for each episode.

    What it can do is said by the values below: in the class where all its suites are alike, in ``__init__`` where it depends
    on the arguments. A suite around another one takes over the other's.

    Raises:
        InvalidArgument: When a class is defined that has ``after_finish`` and does not say ``has_turns``: it would never be asked. Or one that
            says it has what it does not define.
    """

    name: str
    has_solution: bool = False
    """Whether ``solution`` works; True for a class that defines it and does not say otherwise."""
    has_progress: bool = False
    """Whether ``progress`` measures anything; True for a class that defines it and does not say otherwise."""
    can_snapshot: bool = True
    """Whether the toolkit's state can be copied, so that ``env.snapshot``, ``restore`` and ``fork`` work."""
    has_turns: bool = False
    """Whether the user may go on after ``finish``: only then ``after_finish`` is called."""
    most_tools: int | None = None
    """Most tools that a task offers beside ``finish``, where the suite knows it: it sizes the compact form of ``StepToolDiscrete-v0``,
    so splits that are to be played by the same network must agree."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        said = {flag for base in cls.__mro__ if base is not TaskSuite for flag in vars(base)}
        for flag, method in (("has_solution", "solution"), ("has_progress", "progress")):
            defined = getattr(cls, method) is not getattr(TaskSuite, method)
            if flag not in said:
                setattr(cls, flag, defined)
            elif getattr(cls, flag) is True and not defined:
                raise InvalidArgument(f"{cls.__qualname__} says {flag} = True and defines no {method}(self, task, episode); define it, or leave {flag} out")
        if cls.after_finish is not TaskSuite.after_finish and "has_turns" not in said:
            raise InvalidArgument(f"{cls.__qualname__} defines after_finish and does not say has_turns; write has_turns = True into the class, or "
                                  "has_turns = False and set self.has_turns in __init__ where it depends on the arguments")  # fmt: skip

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def __getitem__(self, index: int) -> Task:
        """Return a task; raises ``IndexError`` outside ``range(len(self))``."""

    def __iter__(self) -> Iterator[Task]:
        return (self[index] for index in range(len(self)))

    def about(self) -> str:
        """Return in words which tasks these are, where the suite's name does not say it: what its options leave out or make harder."""
        return ""

    def index(self, task_id: str) -> int:
        """Return the index of the task with this id; raises ``KeyError`` if there is none."""
        for index in range(len(self)):
            if self[index].id == task_id:
                return index
        raise KeyError(task_id)

    @abc.abstractmethod
    def toolkit(self, task: Task) -> Toolkit:
        """Return the tools on offer with fresh state, ``finish`` included."""

    @abc.abstractmethod
    def grade(self, task: Task, episode: Episode) -> Outcome:
        """Judge an episode that has ended; for example its last call's answer and the toolkit's end state."""

    def after_finish(self, task: Task, episode: Episode) -> str | None:
        """Return the user's next message after ``finish``, or ``None`` if the episode is over (the usual case).

        Suites with several user turns define it and set ``has_turns``; the tools on offer may change with the turn. They
        then follow from the toolkit's state, so that ``restore`` brings them back.
        """
        return None

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        """Return calls that solve the task from where the episode stands; ``[]`` if it can no longer be solved."""
        raise NotSupported(f"suite {self.name!r} knows no solutions: it defines no method solution(self, task, episode)")

    def progress(self, task: Task, episode: Episode) -> float:
        """Return the progress in [0, 1] where the episode stands, in constant time; it does not count the outcome."""
        return 0.0
