"""``Listed``: what suites with a fixed list of tasks share: index, id and split."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from steptool_env.errors import UnknownName
from steptool_env.tasks.base import TaskSuite
from steptool_env.types import Task

__all__ = ["SPLITS", "Listed", "check_split", "in_split"]

SPLITS = ("train", "test", "all")


def check_split(suite: str, split: str) -> None:
    """Raise ``UnknownName`` if the split is not in ``SPLITS``.

    Args:
        suite: Its name, for the message.
        split: What was asked for.
    """
    if split not in SPLITS:
        raise UnknownName(f"{suite} split", split, SPLITS)


def in_split(number: int, split: str) -> bool:
    """Return whether the task with this number belongs to the split: every fifth, from 0, is ``"test"``, the others are ``"train"``."""
    return split == "all" or (number % 5 == 0) == (split == "test")


class Listed(TaskSuite):
    """A suite whose tasks were all read when it was made.

    Args:
        entries: What stands for each task, in order; it has an ``id``. By default it is the ``Task`` itself; a suite whose
            tasks are large overrides ``_task``, and makes one when it is asked for.
    """

    def __init__(self, entries: Iterable[Any]) -> None:
        self._entries = tuple(entries)
        self._index = {str(entry.id): index for index, entry in enumerate(self._entries)}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self._entries):
            raise IndexError(f"task {index} of {len(self._entries)}")
        return self._task(self._entries[index])

    def index(self, task_id: str) -> int:
        return self._index[task_id]

    def _task(self, entry: Any) -> Task:
        task: Task = entry
        return task
