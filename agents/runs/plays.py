"""What a run plays, in one line: said when it starts, and kept in its report. And whether its suite has what the run needs."""

from __future__ import annotations

from collections.abc import Callable

from steptool_env.errors import InvalidArgument, NotSupported
from steptool_env.tasks import TaskSuite
from steptool_env.words import counted

from ..config import Config

__all__ = ["check_demonstrations", "shared_tasks", "what_it_plays"]

_MOST = 2000
"""Tasks of a suite whose ids are compared."""


def what_it_plays(config: Config, train: TaskSuite, test: TaskSuite) -> str:
    """Return which tasks a run trains on and how many, and how many of the held-out ones it evaluates.

    Args:
        config: Uses the parts ``task``, ``warm_start`` and ``run``.
        train: The suite that it trains on.
        test: The suite that it evaluates on.
    """
    task, start = config.task, config.warm_start
    about = train.about() or ", ".join(f"{name}={value}" for name, value in task.suite_options.items())
    found = [f"plays {train.name}{f', {about}' if about else ''}: {len(train):,} tasks"]
    if start.demos and start.demo_epochs:
        options = ", ".join(f"{name}={value}" for name, value in start.demo_options.items())
        found.append(f"{start.demos:,} demonstrations first{f' ({options})' if options else ''}")
    if task.max_steps is not None:
        found.append(f"at most {task.max_steps} calls each")
    return f"{'; '.join(found)}; evaluated on {min(config.run.eval_episodes, len(test)):,} of {len(test):,} held-out tasks"


def check_demonstrations(make: Callable[[str], TaskSuite], config: Config) -> None:
    """Refuse a warm start that has nothing to imitate.

    Args:
        make: Returns the suite of a part of the run.
        config: Uses the part ``warm_start``.

    Raises:
        InvalidArgument: The suite does not take ``demo_options``, or not these values.
        NotSupported: The suite knows no solutions, and the run begins with demonstrations.
    """
    start = config.warm_start
    try:
        suite = make("demonstrations")
    except InvalidArgument as fault:
        raise InvalidArgument(f"for the demonstrations (demo_options={start.demo_options}): {fault}") from fault
    if start.demos and start.demo_epochs and not suite.has_solution:
        raise NotSupported(
            f"suite {suite.name!r} knows no solutions, and the {start.demos:,} demonstrations of the warm start (demos) show them: "
            "give it a method solution(self, task, episode), or begin without a warm start (demos=0)"
        )


def shared_tasks(train: TaskSuite, test: TaskSuite) -> str:
    """Return in words how many of the held-out tasks are training tasks, too; empty if there are none, or too many tasks to compare."""
    if max(len(train), len(test)) > _MOST:
        return ""
    shared = {task.id for task in train} & {task.id for task in test}
    if not shared:
        return ""
    ids = ", ".join(sorted(shared)[:3])
    return (
        f"{counted(len(shared), 'task')} of {len(test)} held-out ones are trained on, too ({ids} …): the evaluation measures memory. Let split= choose others."
    )
