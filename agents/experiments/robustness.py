"""What failing tools do to the policies of a table: success, recovery, wrong answers, and what of it is a difference between methods.

A condition is what ``Faulty`` takes: ``{"rate": 0.3}`` is 30 % of calls that fail once, ``{"rate": 0.1, "lasting": 1.0}`` tools that stay down,
``{"rate": 0.0, "stale": 0.3}`` answers that are old; ``{}`` is none. All methods meet the same faults: they are drawn from the seed of the cell, the task, the
call and how often it was made. What the budget of steps allows at best is the row of the oracle, which tries again until the budget is used up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from steptool_env.env import StepToolEnv
from steptool_env.scripted import oracle
from steptool_env.tasks import TaskSuite
from steptool_env.tasks.wrapped import Faulty
from steptool_env.types import whose

from ..rollouts.statistics import bootstrap, paired
from ..trajectory import Trajectory
from .stored import markdown, verdicts, with_interval

__all__ = ["ORACLE", "Condition", "condition_name", "curve", "failing", "label", "oracle_verdicts", "robustness", "robustness_markdown"]

Condition = Mapping[str, float]

ORACLE = "oracle"
"""The row of what the faults and the budget of steps leave possible."""


def condition_name(condition: Condition) -> str:
    """Return a condition as it is in the names of files: ``"-faults-30"``, ``"-faults-10-lasting-100"``; ``""`` for none."""
    return "".join(f"-{'faults' if name == 'rate' else name}-{100 * share:g}" for name, share in condition.items() if share)


def label(condition: Condition) -> str:
    """Return a condition as the head of a column: ``"30 %"``, ``"10 %, lasting 100 %"``, ``"stale 30 %"``."""
    shares = [f"{100 * share:g} %" if name == "rate" else f"{name} {100 * share:g} %" for name, share in condition.items() if share]
    return ", ".join(shares) or "0 %"


def failing(suite: TaskSuite, condition: Condition, seed: int) -> TaskSuite:
    """Return a suite under a condition."""
    options = dict(condition)
    return Faulty(suite, options.pop("rate", 0.0), seed, **options) if condition else suite


def oracle_verdicts(suite: TaskSuite, tasks: Sequence[int], condition: Condition, seed: int, max_steps: int | None) -> list[float]:
    """Return the success of the oracle on these tasks under a condition; empty for a suite without solutions."""
    if not suite.has_solution:
        return []
    env, rng, solved = StepToolEnv(failing(suite, condition, seed), "final", max_steps=max_steps), np.random.default_rng(0), []
    for index in tasks:
        env.reset(options={"task": index})
        ended, info = False, {"success": 0.0}
        while not ended:
            _, _, terminated, truncated, info = env.step(oracle(env, rng))
            ended = terminated or truncated
        solved.append(float(info["success"]))
    return solved


def robustness(played: Mapping[tuple[str, str], Sequence[Sequence[Trajectory]]], conditions: Mapping[str, Condition], reference: str) -> list[dict[str, Any]]:
    """Return a row per method and condition.

    Args:
        played: Method and name of a condition -> the episodes of each seed, on the same tasks in the same order.
        conditions: Name -> condition; the first one is without faults.
        reference: The method that the others are compared with under each condition.

    Returns:
        ``mean``, ``low``, ``high``: success. ``recovered``: the share of failed calls after which the task was still solved; None if no call failed.
        ``wrong``: the share of episodes with a failed call that ended with a wrong answer. ``loss…``: success without faults less success under them, paired.
        ``lead…``: the reference's success less this one's, paired, with ``lead_corrected…`` for as many comparisons as there are other methods;
        None in its own row.
    """
    methods = list(dict.fromkeys(method for method, _ in played))
    level = 1 - 0.05 / max(1, len(methods) - 1)
    calm = next(iter(conditions))
    rows = []
    for (method, name), episodes in played.items():
        solved = verdicts(episodes)
        row: dict[str, Any] = {"method": method, "faults": dict(conditions[name]), **asdict(bootstrap(solved)), **_after_faults(episodes)}
        row |= _ends("loss", paired(verdicts(played[method, calm]), solved))
        if method != reference and (reference, name) in played:
            best = verdicts(played[reference, name])
            row |= _ends("lead", paired(best, solved)) | _ends("lead_corrected", paired(best, solved, level=level, resamples=20_000))
        else:
            row |= _ends("lead", None) | _ends("lead_corrected", None)
        rows.append(row)
    return rows


def curve(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of the curve: those of calls that fail once, and those without faults."""
    return [row for row in rows if not any(share for name, share in row["faults"].items() if name != "rate")]


def robustness_markdown(rows: Sequence[Mapping[str, Any]], reference: str) -> list[str]:
    """Return the lines of four tables: success; what of it is lost, in points; what became of episodes with failed calls; the reference's lead, in points.

    Args:
        rows: Of ``robustness``, and of the oracle.
        reference: What the leads are those of.
    """
    heads = list(dict.fromkeys(label(row["faults"]) for row in rows))
    cells = {(row["method"], label(row["faults"])): row for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    trained = [method for method in methods if method != ORACLE]

    def under(rule: Callable[[Mapping[str, Any]], str], shown: Sequence[str], columns: Sequence[str]) -> list[str]:
        lines = [[rule(cells[method, head]) if (method, head) in cells else "-" for head in columns] for method in shown]
        return markdown(["method", *columns], [[method, *line] for method, line in zip(shown, lines, strict=True)])

    def points(row: Mapping[str, Any], prefix: str) -> str:
        return "-" if row[f"{prefix}_mean"] is None else with_interval(row, *(f"{prefix}_{end}" for end in ("mean", "low", "high")), signed=True)

    def after(row: Mapping[str, Any]) -> str:
        return "-" if row["recovered"] is None else f"{100 * row['recovered']:.0f} / {100 * row['wrong']:.0f}"

    lines = ["Success by the share of calls that fail, greedy, per cent with the 95 % interval; the oracle tries again until its budget is used up:", ""]
    lines += under(lambda row: with_interval(row, "mean", "low", "high"), methods, heads)
    lines += ["", "What they cost: success without failures less success with them, in points, paired:", ""]
    lines += under(lambda row: points(row, "loss"), trained, heads[1:])
    lines += ["", "Failed calls after which the task was still solved / episodes with a failed call that ended with a wrong answer, per cent:", ""]
    lines += under(after, trained, heads[1:])
    if any(row.get("lead_mean") is not None for row in rows):
        lines += ["", f"{reference} less each method that was trained alike, in points, paired; the interval is corrected for all methods of a column:", ""]
        lines += under(_lead, [method for method in trained if cells[method, heads[0]]["lead_mean"] is not None], heads)
    return lines


def _lead(row: Mapping[str, Any]) -> str:
    return with_interval(row, "lead_mean", "lead_corrected_low", "lead_corrected_high", signed=True)


def _ends(prefix: str, interval: Any) -> dict[str, float | None]:
    return {f"{prefix}_{end}": None if interval is None else getattr(interval, end) for end in ("mean", "low", "high")}


def _after_faults(episodes: Sequence[Sequence[Trajectory]]) -> dict[str, float | None]:
    """Return what became of episodes in which the environment was at fault, over all seeds."""
    met = [(one, faults) for seed in episodes for one in seed if (faults := sum(whose(step.transition.result.error) == "environment" for step in one.steps))]
    failed = sum(faults for _, faults in met)
    if not failed:
        return {"recovered": None, "wrong": None}
    recovered = sum(faults for one, faults in met if one.success >= 1.0)
    wrong = sum(one.success < 1.0 and one.steps[-1].transition.terminated and not _gave_up(one) for one, _ in met)
    return {"recovered": recovered / failed, "wrong": wrong / len(met)}


def _gave_up(trajectory: Trajectory) -> bool:
    call = trajectory.steps[-1].transition.action
    return bool(getattr(call, "arguments", {}).get("give_up"))
