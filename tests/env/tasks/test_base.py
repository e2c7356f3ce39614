"""What a suite says it can do."""

from __future__ import annotations

import pytest
from toy import Counting

from steptool_env import Episode, Outcome, Task, TaskSuite, Toolkit
from steptool_env.errors import InvalidArgument


class Bare(TaskSuite):
    name = "bare"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Task:
        return Task("bare", "Do nothing.", ("finish",), 1)

    def toolkit(self, task: Task) -> Toolkit:
        return Toolkit([])

    def grade(self, task: Task, episode: Episode) -> Outcome:
        return Outcome(1.0)


def test_a_suite_can_little_unless_it_says_so() -> None:
    bare = Bare()
    assert (bare.has_solution, bare.has_progress, bare.can_snapshot, bare.has_turns) == (False, False, True, False)


def test_abilities_are_values_of_the_instance() -> None:
    one, other = Counting(turns=2), Counting()
    assert (one.has_turns, other.has_turns, Counting.has_turns) == (True, False, False)
    other.can_snapshot = False
    assert (one.can_snapshot, Counting.can_snapshot) == (True, True)


def test_turns_that_nobody_would_ask_for_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"Silent defines after_finish and does not say has_turns; write has_turns = True into the class"):

        class Silent(Bare):
            def after_finish(self, task: Task, episode: Episode) -> str | None:
                return None


def test_turns_may_be_said_in_any_of_the_classes() -> None:
    class Asking:
        def after_finish(self, task: Task, episode: Episode) -> str | None:
            return "And then?"

    with pytest.raises(InvalidArgument, match="has_turns"):

        class Mixed(Asking, Bare):  # type: ignore[misc]  # a mixin that knows nothing of suites
            pass

    class Said(Asking, Bare):  # type: ignore[misc]
        has_turns = True

    class Further(Said):
        def after_finish(self, task: Task, episode: Episode) -> str | None:
            return None

    assert Said().has_turns and Further().has_turns
