"""The tasks of a run: those it trains on, those it demonstrates, and those it is tested on."""

from __future__ import annotations

from steptool_env.tasks import TaskSuite, make_suite
from steptool_env.tasks.wrapped import BudgetShown, Faulty

from ..config import Config

__all__ = ["as_shown", "suite_of"]


def suite_of(config: Config, part: str, *, failing: bool = True) -> TaskSuite:
    """Return the tasks of a part of a run.

    Args:
        config: Uses the part ``task``, and ``warm_start.demo_options``.
        part: ``"train"`` and ``"demonstrations"`` come from the split ``train``, with calls that fail as the settings say; ``"test"`` from
            the split ``test``, without.
        failing: Whether calls fail as the settings say.
    """
    task, warm_start = config.task, config.warm_start
    if part == "test":
        return as_shown(make_suite(task.suite, **{**task.suite_options, "split": "test"}), config)
    demonstrated = part == "demonstrations"
    options = {**task.suite_options, **(warm_start.demo_options if demonstrated else {}), "split": "train"}
    suite, rate = make_suite(task.suite, **options), warm_start.demo_fault_rate if demonstrated else task.fault_rate
    return as_shown(Faulty(suite, rate, config.run.seed, **task.fault_options) if rate and failing else suite, config)


def as_shown(suite: TaskSuite, config: Config) -> TaskSuite:
    """Return a suite as the policy of a run is shown it: with its budget of calls, if the settings say so."""
    return BudgetShown(suite, config.task.max_steps) if config.task.show_budget else suite
