"""The paper's table from a grid's folder; every number is computed from the stored episodes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from steptool_env.errors import CheckpointError
from steptool_env.files import write_text
from steptool_env.sealed import sealing

from ..rollouts.evaluate import held_out, oracle_calls, summarize
from ..rollouts.statistics import bootstrap, paired, paired_shares
from ..trajectory import Trajectory
from .aggregates import THRESHOLDS, aggregated
from .grid import WITH_FAULTS, Spec, cell_folder, evaluations, read_spec, suite_of
from .pictures import draw_curves
from .robustness import ORACLE, Condition, condition_name, curve, oracle_verdicts, robustness, robustness_markdown
from .stored import markdown, read_episodes, read_numbers, useful, verdicts

__all__ = ["FILES", "as_csv", "as_markdown", "build", "write"]

TABLES = ("table.md", "table.csv", "table.json")
FILES = (*TABLES, "horizon.png", "robustness.png", "profiles.png")
"""What ``write`` writes."""
REFERENCE_ROW = "StepTool"
"""The method that all others are compared with."""
MEASURES = ("success", "recall", "call_success", "call_accuracy", "steps_over_oracle", "hallucinated", "repeated")


def build(out: Path) -> dict[str, Any]:
    """Return the table: ``rows`` (method × split × search), ``differences`` (StepTool less each, paired), ``aggregates`` (interquartile mean,
    probability of improvement, profile of each method; of several seeds), ``horizon`` (success by depth), ``robustness`` (what failing tools
    do, see ``robustness.py``). Methods that were trained with faults are compared with StepTool trained so.

    Only methods whose cells are all finished are in it; ``missing`` names the others.

    Raises:
        CheckpointError: The folder holds no grid, or no finished method.
    """
    spec = read_spec(out)
    played: dict[tuple[str, str, str], list[list[Trajectory]]] = {}
    under: dict[tuple[str, str], list[list[Trajectory]]] = {}
    missing, rows = [], []
    for method in spec.methods:
        cells = [evaluations(spec, cell_folder(out, method, seed)) for seed in spec.seeds]
        if not all(evaluation.done for cell in cells for evaluation in cell):
            missing.append(method)
            continue
        reports = [read_numbers(cell_folder(out, method, seed) / "run" / "report.json", "seconds", "env_steps", "model_tokens") for seed in spec.seeds]
        for index, evaluation in enumerate(cells[0]):
            episodes = [read_episodes(cell[index].episodes) for cell in cells]
            if evaluation.search == "greedy" and evaluation.split == next(iter(spec.splits)):
                under[method, condition_name(evaluation.faults)] = episodes
            if not evaluation.faults:
                costs = [read_numbers(cell[index].costs, "calls", "env_steps", "tokens", "seconds") for cell in cells]
                played[method, evaluation.split, evaluation.search] = episodes
                rows.append(_row(spec, method, evaluation.split, evaluation.search, episodes, reports, costs))
    if not rows:
        raise CheckpointError(f"no method of {out} is finished yet; run the grid first")
    curves = {"horizon": _horizon(played), "robustness": _robustness(spec, under) if spec.faults else []}
    compared = {"differences": _differences(played), "aggregates": _aggregates(spec, played)}
    return {"seeds": spec.seeds, "rows": rows, **compared, **curves, "missing": missing, "spec": asdict(spec)}


def _row(
    spec: Spec,
    method: str,
    split: str,
    name: str,
    episodes: Sequence[Sequence[Trajectory]],
    reports: Sequence[Mapping[str, Any]],
    costs: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    config = spec.config(method, spec.seeds[0])
    suite = suite_of(spec, config, split)
    oracle = oracle_calls(suite, held_out(suite, spec.tasks))
    summaries = [summarize(trajectories, oracle) for trajectories in episodes]
    interval = bootstrap(verdicts(episodes))
    row: dict[str, Any] = {"method": method, "split": split, "search": name, "success_low": interval.low, "success_high": interval.high}
    for measure in MEASURES:
        values = [getattr(summary, measure) for summary in summaries]
        row[measure] = None if None in values else float(np.mean(values))
    row |= {f"train_{key}": float(np.mean([report[key] for report in reports])) for key in ("seconds", "env_steps", "model_tokens")}
    return row | {f"eval_{key}": float(np.mean([cost[key] for cost in costs])) for key in ("calls", "env_steps", "tokens", "seconds")}


def _differences(played: Mapping[tuple[str, str, str], Sequence[Sequence[Trajectory]]]) -> list[dict[str, Any]]:
    rows = []
    methods = {method for method, *_ in played}
    for (method, split, name), episodes in played.items():
        reference = played.get((_reference(method), split, name))
        if reference is None or method == _reference(method):
            continue
        others = [other for other in methods if _reference(other) == _reference(method) != other]
        all_hold = 1 - 0.05 / len(others)
        for tasks, depths in (("all", None), ("depth >= 4", range(4, 100))):
            solved, baseline = verdicts(reference, depths), verdicts(episodes, depths)
            if solved.size:
                accuracy = paired_shares(useful(reference, depths), useful(episodes, depths))
                row = {"against": method, "split": split, "search": name, "tasks": tasks, **asdict(paired(solved, baseline))}
                corrected = paired(solved, baseline, level=all_hold, resamples=20_000)  # more, for quantiles farther out
                row |= {"corrected_low": corrected.low, "corrected_high": corrected.high, "comparisons": len(others)}
                rows.append(row | {f"accuracy_{end}": value for end, value in asdict(accuracy).items()})
    return rows


def _aggregates(spec: Spec, played: Mapping[tuple[str, str, str], Sequence[Sequence[Trajectory]]]) -> list[dict[str, Any]]:
    """Return the measures of ``aggregates.py`` for the first split, played greedily; none of a single seed."""
    first = next(iter(spec.splits))
    shown = {method: episodes for (method, split, name), episodes in played.items() if (split, name) == (first, "greedy")}
    if len(spec.seeds) < 2 or not shown:
        return []
    depths = _depths(next(iter(shown.values()))[0])
    groups: list[list[int] | None] = [[depth] for depth in depths] if depths else [None]
    scores = {method: np.stack([verdicts(episodes, group).mean(axis=1) for group in groups], axis=1) for method, episodes in shown.items()}
    alike = [{method: table for method, table in scores.items() if _reference(method) == reference} for reference in _references(scores)]
    return [row for group in alike for row in aggregated(group, _reference(next(iter(group))))]


def _depths(trajectories: Sequence[Trajectory]) -> list[int]:
    return sorted({depth for trajectory in trajectories if isinstance(depth := trajectory.task.tags.get("depth"), int)})


def _horizon(played: Mapping[tuple[str, str, str], Sequence[Sequence[Trajectory]]]) -> list[dict[str, Any]]:
    rows = []
    for (method, split, name), episodes in played.items():
        for depth in _depths(episodes[0]):
            solved = verdicts(episodes, [depth])
            rows.append({"method": method, "split": split, "search": name, "depth": depth, "tasks": solved.shape[1], **asdict(bootstrap(solved))})
    return rows


def _robustness(spec: Spec, under: Mapping[tuple[str, str], Sequence[Sequence[Trajectory]]]) -> list[dict[str, Any]]:
    """Return the rows of ``robustness.py``, methods that are trained alike together, and those of the oracle."""
    conditions: dict[str, Condition] = {"": {}, **{condition_name(condition): condition for condition in spec.faults}}
    rows = []
    for reference in _references(method for method, _ in under):
        rows += robustness({key: episodes for key, episodes in under.items() if _reference(key[0]) == reference}, conditions, reference)
    config = spec.config(next(method for method, _ in under), spec.seeds[0])
    suite = suite_of(spec, config, next(iter(spec.splits)))
    tasks = held_out(suite, spec.tasks)
    for condition in conditions.values():
        solved = [oracle_verdicts(suite, tasks, condition, seed, config.task.max_steps) for seed in spec.seeds]
        if solved[0]:
            rows.append({"method": ORACLE, "faults": dict(condition), **asdict(bootstrap(solved))})
    return rows


def _reference(method: str) -> str:
    """Return the row that a method is compared with: StepTool, trained with faults where the method is."""
    return f"{REFERENCE_ROW}{WITH_FAULTS}" if method.endswith(WITH_FAULTS) else REFERENCE_ROW


def _references(methods: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(_reference, methods)))


def as_markdown(table: Mapping[str, Any]) -> str:
    """Return the table in the layout of the paper: methods down, splits and searches across; then costs, differences and curves."""
    columns = list(dict.fromkeys((row["search"], row["split"]) for row in table["rows"]))
    methods = list(dict.fromkeys(row["method"] for row in table["rows"]))
    cell = {(row["method"], row["search"], row["split"]): row for row in table["rows"]}
    lines = [f"Success / recall of the needed tools, in per cent, with the 95 % interval of success. Seeds: {', '.join(map(str, table['seeds']))}.", ""]
    lines += markdown(
        ["method", *(f"{name}, {split}" for name, split in columns)],
        [[method, *(_success(cell[method, name, split]) for name, split in columns)] for method in methods],
    )
    names = ["call success", "call accuracy", "steps / oracle", "hallucinated", "repeated", "train s", "train env steps", "train tokens", "calls", "tokens"]
    keys = ["call_success", "call_accuracy", "steps_over_oracle", "hallucinated", "repeated"]
    costs = ["train_seconds", "train_env_steps", "train_model_tokens", "eval_calls", "eval_tokens"]
    details = []
    for row in table["rows"]:
        shares = ["-" if row[key] is None else f"{row[key]:.3f}" for key in keys]
        details.append([row["method"], f"{row['search']}, {row['split']}", *shares, *(f"{row[key]:,.0f}" for key in costs)])
    lines += ["", "Calls, and what training and (per task) playing cost:", "", *markdown(["method", "", *names], details)]
    if table["differences"]:
        rows = []
        for row in table["differences"]:
            points = ["{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * row[f"{prefix}{end}"] for end in ("mean", "low", "high"))) for prefix in ("", "accuracy_")]
            corrected = "{:+.1f} to {:+.1f}".format(*(100 * row[f"corrected_{end}"] for end in ("low", "high")))
            rows.append([row["against"], f"{row['search']}, {row['split']}", row["tasks"], points[0], corrected, points[1]])
        lines += ["", f"{REFERENCE_ROW} less each method, in points, with 95 % intervals, paired on tasks and seeds; corrected: all of a column together", ""]
        lines[-2] += f" (Bonferroni, {table['differences'][0]['comparisons']} comparisons):"
        lines += markdown(["method", "", "tasks", "success", "corrected", "call accuracy"], rows)
    if table["aggregates"]:
        lines += ["", "Scores of seeds at each depth: interquartile mean, and the chance that a seed of", ""]
        lines[-2] += f" {REFERENCE_ROW} has the higher score, per cent with 95 % intervals (stratified bootstrap over seeds):"
        lines += markdown(["method", "interquartile mean", f"{REFERENCE_ROW} is better"], [_aggregate(row) for row in table["aggregates"]])
    if table["horizon"]:
        lines += ["", "Success by depth, per cent:", "", *markdown(*_by_depth(table["horizon"]))]
    if table["robustness"]:
        lines += ["", *robustness_markdown(table["robustness"], REFERENCE_ROW)]
    if table["missing"]:
        lines += ["", f"Not finished, and left out: {', '.join(table['missing'])}."]
    return "\n".join(lines) + "\n"


def as_csv(table: Mapping[str, Any]) -> str:
    """Return the rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table["rows"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table["rows"])
    return text.getvalue()


def write(table: Mapping[str, Any], out: Path) -> list[Path]:
    """Write ``FILES``, as far as there is something to draw; return their paths."""
    files = [out / name for name in TABLES]
    for path, text in zip(files, (as_markdown(table), as_csv(table), json.dumps(table, indent=2)), strict=True):
        with sealing(path) as temporary:
            write_text(temporary, text)
    horizon = [({**row, "x": row["depth"]}, f"{row['search']}, {row['split']}") for row in table["horizon"]]
    points_under = [({**row, "x": 100 * row["faults"].get("rate", 0.0)}, "greedy") for row in curve(table["robustness"])]
    profiles = [
        ({"method": row["method"], "x": 100 * threshold, **dict(zip(("mean", "low", "high"), share, strict=True))}, "greedy")
        for row in table["aggregates"]
        for threshold, share in zip(THRESHOLDS, row["profile"], strict=True)
    ]
    pictures = [
        ("horizon", horizon, ("calls that a task needs", "success")),
        ("robustness", points_under, ("calls that fail, per cent", "success")),
        ("profiles", profiles, ("success, per cent", "share of seeds and depths above it")),
    ]
    for name, points, labels in pictures:
        if points:
            with sealing(out / f"{name}.png") as temporary:
                draw_curves(points, labels, REFERENCE_ROW).savefig(temporary, dpi=130, format="png")
            files.append(out / f"{name}.png")
    return files


def _by_depth(horizon: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    depths = sorted({row["depth"] for row in horizon})
    lines: dict[tuple[str, str], dict[int, str]] = {}
    for row in horizon:
        lines.setdefault((row["method"], f"{row['search']}, {row['split']}"), {})[row["depth"]] = f"{100 * row['mean']:.0f}"
    return ["method", "", *map(str, depths)], [[*key, *(line.get(depth, "-") for depth in depths)] for key, line in lines.items()]


def _aggregate(row: Mapping[str, Any]) -> list[str]:
    cells = [[100 * row[f"{name}{end}"] for end in ("", "_low", "_high")] if row[name] is not None else None for name in ("iqm", "improvement")]
    return [row["method"], *("-" if cell is None else "{:.1f} ({:.0f} to {:.0f})".format(*cell) for cell in cells)]


def _success(row: Mapping[str, Any]) -> str:
    recall = "-" if row["recall"] is None else f"{100 * row['recall']:.1f}"
    return f"{100 * row['success']:.1f} ({100 * row['success_low']:.0f} to {100 * row['success_high']:.0f}) / {recall}"
