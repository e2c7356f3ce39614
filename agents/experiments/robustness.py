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

from ..credit.episodes import Floats
from ..rollouts.statistics import Interval, bootstrap, paired, paired_shares
from .stored import Played, Seeds, markdown, together, verdicts, with_interval

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


def robustness(played: Mapping[tuple[str, str], Seeds], conditions: Mapping[str, Condition], reference: str, comparisons: int = 1) -> list[dict[str, Any]]:
    """Return a row per method and condition.

    Args:
        played: Method and name of a condition -> what each seed played.
        conditions: Name -> condition; the first one is without faults.
        reference: The method that the others are compared with under each condition.
        comparisons: How many methods it is compared with, which intervals are corrected for.

    Returns:
        ``mean``, ``low``, ``high``: success. ``recovered``: the share of failed calls after which the task was still solved; None if no call failed.
        ``wrong``, ``cut_off``: the shares of episodes with a failed call that ended with a wrong answer, and when their budget was used up.
        ``loss…``: success without faults less success under them, paired.
        ``lead…``: the reference's success less this one's, paired, with ``lead_corrected…`` for so many comparisons;
        ``more_lost…``: the reference's loss less this one's. Who solves more without failures has more to lose; so ``kept…``: of the tasks that both
        solve without failures, the share that the reference still solves less the share that this one does. All four are None in its own row.
    """
    level = 1 - 0.05 / comparisons
    calm = next(iter(conditions))
    rows = []
    for (method, name), seeds in played.items():
        under, without = list(seeds.values()), list(played[method, calm].values())
        row: dict[str, Any] = {"method": method, "faults": dict(conditions[name]), **asdict(bootstrap(verdicts(under))), **_after_faults(under)}
        row |= _ends("loss", paired(verdicts(without), verdicts(under)))
        pairs = None
        if method != reference and (reference, name) in played:
            pairs = together(played[reference, calm], played[reference, name], played[method, calm], seeds)
        leads = dict.fromkeys(("lead", "lead_corrected", "more_lost", "kept"), None) if pairs is None else _leads(*map(verdicts, pairs), level=level)
        for prefix, interval in leads.items():
            row |= _ends(prefix, interval)
        rows.append(row)
    return rows


def _leads(best_without: Floats, best: Floats, without: Floats, solved: Floats, *, level: float) -> dict[str, Interval | None]:
    both = np.minimum(best_without, without)
    return {
        "lead": paired(best, solved),
        "lead_corrected": paired(best, solved, level=level, resamples=20_000),  # more, for quantiles farther out
        "more_lost": paired(best_without - best, without - solved),
        "kept": paired_shares((both * best, both), (both * solved, both)) if both.any(axis=1).all() else None,
    }


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
        return "-" if row["recovered"] is None else " / ".join(f"{100 * row[share]:.0f}" for share in ("recovered", "wrong", "cut_off"))

    lines = ["Success by the share of calls that fail, greedy, per cent with the 95 % interval; the oracle tries again until its budget is used up:", ""]
    lines += under(lambda row: with_interval(row, "mean", "low", "high"), methods, heads)
    lines += ["", "What they cost: success without failures less success with them, in points, paired:", ""]
    lines += under(lambda row: points(row, "loss"), trained, heads[1:])
    head = "Failed calls after which the task was still solved / episodes with one that ended with a wrong answer / that used up their budget, per cent:"
    lines += ["", head, ""]
    lines += under(after, trained, heads[1:])
    if any(row.get("lead_mean") is not None for row in rows):
        lines += ["", f"{reference} less each method that was trained alike, in points, paired; the interval is corrected for their number:", ""]
        others = [method for method in trained if cells[method, heads[0]]["lead_mean"] is not None]
        lines += under(_lead, others, heads)
        lines += ["", f"What {reference} loses by failures less what each method loses, in points, paired; a minus: it loses less:", ""]
        lines += under(lambda row: points(row, "more_lost"), others, heads[1:])
        lines += ["", f"Of the tasks that both solve without failures, what {reference} still solves less what each method does, in points, paired:", ""]
        lines += under(lambda row: points(row, "kept"), others, heads[1:])
    return lines


def _lead(row: Mapping[str, Any]) -> str:
    return with_interval(row, "lead_mean", "lead_corrected_low", "lead_corrected_high", signed=True)


def _ends(prefix: str, interval: Any) -> dict[str, float | None]:
    return {f"{prefix}_{end}": None if interval is None else getattr(interval, end) for end in ("mean", "low", "high")}


def _after_faults(seeds: Sequence[Played]) -> dict[str, float | None]:
    """Return what became of episodes in which the environment was at fault, over all seeds."""
    failed, success, wrong, cut_off = (np.concatenate([getattr(played, name) for played in seeds]) for name in ("failed", "success", "wrong", "cut_off"))
    if not failed.any():
        return {"recovered": None, "wrong": None, "cut_off": None}
    ends = {"wrong": float(wrong[failed > 0].mean()), "cut_off": float(cut_off[failed > 0].mean())}
    return {"recovered": float(failed[success >= 1.0].sum() / failed.sum()), **ends}
