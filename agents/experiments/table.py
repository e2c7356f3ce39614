"""The paper's table from a grid's folder; every number is computed from the stored episodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from steptool_env.errors import CheckpointError

from ..rollouts.evaluate import Report, held_out, oracle_calls, summarize
from ..rollouts.statistics import bootstrap, paired, paired_shares
from .aggregates import aggregated
from .grid import WITH_FAULTS, Evaluation, Spec, cell_folder, evaluations, read_spec, suite_of
from .robustness import ORACLE, Condition, condition_name, oracle_verdicts, robustness
from .stored import Played, Seeds, read_episodes, read_numbers, together, useful, verdicts

__all__ = ["REFERENCE_ROW", "WARM_START", "build"]

REFERENCE_ROW = "StepTool"
"""The method that all others are compared with."""
WARM_START = "SFT"
"""The row that all others begin with."""
MEASURES = ("success", "recall", "call_success", "call_accuracy", "steps_over_oracle", "hallucinated", "repeated")
TASKS: dict[str, Iterable[int] | None] = {"all": None, "depth >= 4": range(4, 100)}
"""The tasks over which methods are compared: name -> depths."""

Column = tuple[str, str]
"""Split and search."""


def build(out: Path, planned: Collection[str] = ()) -> dict[str, Any]:
    """Return the table: ``rows`` (method × split × search), ``differences`` (StepTool less each method, paired), ``gains`` (each method less the
    warm start, paired), ``aggregates`` (interquartile mean, probability of improvement, profile of each method; of several seeds), ``horizon``
    (success by depth), ``robustness`` (what failing tools do, see ``robustness.py``). Methods that were trained with faults are compared
    with StepTool, and with a warm start, trained so.

    A method is in it with the seeds that are finished, which ``rows`` name; two methods are compared over the seeds that both have. ``missing``
    names the methods that have none.

    Args:
        out: The grid's folder.
        planned: The methods that are to be compared, whether they are trained yet or not: intervals are corrected for their number, and stay what
            they are when a row is added. None: the methods that are there. Those trained with faults always count as they are there.

    Raises:
        CheckpointError: The folder holds no grid, or no finished cell.
    """
    spec = read_spec(out)
    played: dict[Column, dict[str, Seeds]] = {}
    under: dict[tuple[str, str], Seeds] = {}
    missing, rows = [], []
    for method in spec.methods:
        cells = {seed: evaluations(spec, cell_folder(out, method, seed)) for seed in spec.seeds}
        cells = {seed: cell for seed, cell in cells.items() if all(one.done for one in cell)}
        if not cells:
            missing.append(method)
            continue
        reports = [read_numbers(cell_folder(out, method, seed) / "run" / "report.json", "seconds", "env_steps", "model_tokens") for seed in cells]
        for index, evaluation in enumerate(next(iter(cells.values()))):
            files = {seed: cell[index] for seed, cell in cells.items()}
            seeds, summaries = _read(spec, method, evaluation, files)
            if evaluation.search == "greedy" and evaluation.split == next(iter(spec.splits)):
                under[method, condition_name(evaluation.faults)] = seeds
            if not evaluation.faults:
                costs = [read_numbers(file.costs, "calls", "env_steps", "tokens", "seconds") for file in files.values()]
                played.setdefault((evaluation.split, evaluation.search), {})[method] = seeds
                rows.append(_row(method, evaluation, seeds, summaries, reports, costs))
    if not rows:
        raise CheckpointError(f"no method of {out} is finished yet; run the grid first")
    compared = {
        "differences": _beside(played, REFERENCE_ROW, planned, less_each=True),
        "gains": _beside(played, WARM_START, planned, less_each=False),
        "aggregates": _aggregates(spec, played),
    }
    curves = {"horizon": _horizon(played), "robustness": _robustness(spec, under, planned) if spec.faults else []}
    return {"seeds": spec.seeds, "rows": rows, **compared, **curves, "missing": missing, "spec": asdict(spec)}


def _read(spec: Spec, method: str, evaluation: Evaluation, files: Mapping[int, Evaluation]) -> tuple[Seeds, list[Report]]:
    """Return what each seed played, and its measures; those only without faults."""
    config = spec.config(method, next(iter(files)))
    suite = suite_of(spec, config, evaluation.split)
    oracle = {} if evaluation.faults else oracle_calls(suite, held_out(suite, evaluation.tasks))
    seeds, summaries = {}, []
    for seed, file in files.items():
        episodes = read_episodes(file.episodes)
        seeds[seed] = Played.of(episodes)
        if not evaluation.faults:
            summaries.append(summarize(episodes, oracle))
    return seeds, summaries


def _row(
    method: str,
    evaluation: Evaluation,
    seeds: Seeds,
    summaries: Sequence[Report],
    reports: Sequence[Mapping[str, Any]],
    costs: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    interval = bootstrap(verdicts(list(seeds.values())))
    row: dict[str, Any] = {"method": method, "split": evaluation.split, "search": evaluation.search, "seeds": list(seeds)}
    row |= {"success_low": interval.low, "success_high": interval.high}
    for measure in MEASURES:
        values = [getattr(summary, measure) for summary in summaries]
        row[measure] = None if None in values else float(np.mean(values))
    row |= {f"train_{key}": float(np.mean([report[key] for report in reports])) for key in ("seconds", "env_steps", "model_tokens")}
    return row | {f"eval_{key}": float(np.mean([cost[key] for cost in costs])) for key in ("calls", "env_steps", "tokens", "seconds")}


def _beside(played: Mapping[Column, Mapping[str, Seeds]], row: str, planned: Collection[str], *, less_each: bool) -> list[dict[str, Any]]:
    """Return a row that was trained alike beside each other method, paired.

    Args:
        played: Column -> method -> what each seed played.
        row: The row, as it is named without faults.
        planned: As in ``build``.
        less_each: The row less each method, which is named ``against``; or else each method less the row, named ``method``.
    """
    rows = []
    for column, methods in played.items():
        for method in methods:
            common = _alike(method, row)
            if common not in methods or method == common:
                continue
            name, pair = ({"against": method}, (common, method)) if less_each else ({"method": method}, (method, common))
            rows += _compared(name, column, methods[pair[0]], methods[pair[1]], _rivals(methods, common, planned))
    return rows


def _rivals(methods: Iterable[str], reference: str, planned: Collection[str]) -> int:
    """Return how many methods are compared with this one, in one column."""
    counted = planned if planned and not reference.endswith(WITH_FAULTS) else methods
    return max(1, sum(method != reference and method.endswith(WITH_FAULTS) == reference.endswith(WITH_FAULTS) for method in counted))


def _compared(name: dict[str, str], column: Column, method: Seeds, baseline: Seeds, comparisons: int) -> list[dict[str, Any]]:
    """Return a method less a baseline over ``TASKS``, paired on tasks and seeds: success and call accuracy, both also corrected for so many
    comparisons (Bonferroni)."""
    pairs, rows = together(method, baseline), []
    if pairs is None:
        return []
    level, resamples = 1 - 0.05 / comparisons, 20_000  # more resamples, for quantiles farther out
    for tasks, depths in TASKS.items():
        solved = [verdicts(seeds, depths) for seeds in pairs]
        if not solved[0].size:
            continue
        calls = [useful(seeds, depths) for seeds in pairs]
        row: dict[str, Any] = {**name, "split": column[0], "search": column[1], "tasks": tasks, "seeds": len(pairs[0]), "comparisons": comparisons}
        for prefix, plain, corrected in (
            ("", paired(*solved), paired(*solved, level=level, resamples=resamples)),
            ("accuracy_", paired_shares(*calls), paired_shares(*calls, level=level, resamples=resamples)),
        ):
            row |= {f"{prefix}{end}": value for end, value in asdict(plain).items()}
            row |= {f"{prefix}corrected_low": corrected.low, f"{prefix}corrected_high": corrected.high}
        rows.append(row)
    return rows


def _aggregates(spec: Spec, played: Mapping[Column, Mapping[str, Seeds]]) -> list[dict[str, Any]]:
    """Return the measures of ``aggregates.py`` for the first split, played greedily, over ``TASKS``; none of a single seed."""
    shown = {method: list(seeds.values()) for method, seeds in played.get((next(iter(spec.splits)), "greedy"), {}).items() if len(seeds) > 1}
    rows = []
    for tasks, depths in TASKS.items():
        groups: list[list[int] | None] = [[depth] for depth in _depths(shown.values()) if depths is None or depth in depths]
        if not groups and depths is None:
            groups = [None]  # a suite that does not say how deep its tasks are
        if not groups:
            continue
        scores = {method: np.stack([verdicts(seeds, group).mean(axis=1) for group in groups], axis=1) for method, seeds in shown.items()}
        alike = [{method: one for method, one in scores.items() if _alike(method, REFERENCE_ROW) == reference} for reference in _references(scores)]
        rows += [{"tasks": tasks, **row} for group in alike for row in aggregated(group, _alike(next(iter(group)), REFERENCE_ROW))]
    return rows


def _depths(methods: Iterable[Sequence[Played]]) -> list[int]:
    """Return the depths of the tasks; they are the same for all methods and seeds."""
    return [depth for depth in np.unique(next(iter(methods))[0].depth).tolist() if depth >= 0] if methods else []


def _horizon(played: Mapping[Column, Mapping[str, Seeds]]) -> list[dict[str, Any]]:
    rows = []
    for (split, name), methods in played.items():
        for method, seeds in methods.items():
            for depth in _depths([list(seeds.values())]):
                solved = verdicts(list(seeds.values()), [depth])
                rows.append({"method": method, "split": split, "search": name, "depth": depth, "tasks": solved.shape[1], **asdict(bootstrap(solved))})
    return rows


def _robustness(spec: Spec, under: Mapping[tuple[str, str], Seeds], planned: Collection[str]) -> list[dict[str, Any]]:
    """Return the rows of ``robustness.py``, methods that are trained alike together, and those of the oracle; over the tasks of every condition."""
    conditions: dict[str, Condition] = {"": {}, **{condition_name(condition): condition for condition in spec.faults}}
    name = condition_name(spec.faults[0])
    shared = {method: {seed: one.only(under[method, name][seed].tasks) for seed, one in seeds.items()} for (method, calm), seeds in under.items() if not calm}
    rows = []
    for reference in _references(shared):
        alike = {key: seeds for key, seeds in under.items() if _alike(key[0], REFERENCE_ROW) == reference}
        comparisons = _rivals({method for method, _ in alike}, reference, planned)
        rows += robustness({key: seeds if key[1] else shared[key[0]] for key, seeds in alike.items()}, conditions, reference, comparisons)
    config = spec.config(next(iter(shared)), spec.seeds[0])
    suite = suite_of(spec, config, next(iter(spec.splits)))
    tasks = [index for index in held_out(suite, spec.tasks) if index in held_out(suite, spec.fewer_tasks or spec.tasks)]
    for condition in conditions.values():
        solved = [oracle_verdicts(suite, tasks, condition, seed, config.task.max_steps) for seed in spec.seeds]
        if solved[0]:
            rows.append({"method": ORACLE, "faults": dict(condition), **asdict(bootstrap(solved))})
    return rows


def _alike(method: str, row: str) -> str:
    """Return a row as it is trained with faults, if the method is."""
    return f"{row}{WITH_FAULTS}" if method.endswith(WITH_FAULTS) else row


def _references(methods: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(_alike(method, REFERENCE_ROW) for method in methods))
