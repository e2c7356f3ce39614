"""What a run plays, in one line: said when it starts, and kept in its report."""

from __future__ import annotations

from steptool_env.tasks import TaskSuite

from ..config import Config

__all__ = ["what_it_plays"]


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
