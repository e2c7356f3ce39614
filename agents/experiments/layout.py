"""What a table looks like: Markdown for people, CSV and JSON for machines, and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steptool_env.files import write_text
from steptool_env.sealed import sealing
from steptool_env.words import counted

from .aggregates import THRESHOLDS
from .pictures import draw_curves
from .robustness import curve, robustness_markdown
from .stored import markdown, with_interval
from .table import REFERENCE_ROW, WARM_START

__all__ = ["FILES", "as_csv", "as_markdown", "write"]

TABLES = ("table.md", "table.csv", "table.json")
FILES = (*TABLES, "horizon.png", "robustness.png", "profiles.png")
"""What ``write`` writes."""


def as_markdown(table: Mapping[str, Any]) -> str:
    """Return the table in the layout of the paper: methods down, splits and searches across; then costs, differences and curves."""
    columns = list(dict.fromkeys((row["search"], row["split"]) for row in table["rows"]))
    methods = list(dict.fromkeys(row["method"] for row in table["rows"]))
    cell = {(row["method"], row["search"], row["split"]): row for row in table["rows"]}
    lines = [f"Success / recall of the needed tools, in per cent, with the 95 % interval of success. Seeds: {', '.join(map(str, table['seeds']))}.", ""]
    lines += markdown(
        ["method", *(f"{name}, {split}" for name, split in columns)],
        [[_named(cell[method, *columns[0]], table), *(_success(cell[method, name, split]) for name, split in columns)] for method in methods],
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
        lines += ["", f"{REFERENCE_ROW} less each method, {_PAIRED}", "", *_paired(table["differences"], "against")]
    if table["gains"]:
        lines += ["", f"Each method less {WARM_START}, the warm start, {_PAIRED}", "", *_paired(table["gains"], "method")]
    if table["aggregates"]:
        lines += ["", f"Scores of seeds at each depth: interquartile mean, and the chance that a seed of {REFERENCE_ROW} is better, {_OVER_SEEDS}", ""]
        lines += markdown(["method", "tasks", "interquartile mean", f"{REFERENCE_ROW} is better"], [_aggregate(row) for row in table["aggregates"]])
    if table["horizon"]:
        lines += ["", "Success by depth, per cent:", "", *markdown(*_by_depth(table["horizon"]))]
    if table["robustness"]:
        lines += ["", *robustness_markdown(table["robustness"], REFERENCE_ROW)]
    if table["missing"]:
        lines += ["", f"Not finished, and left out: {', '.join(table['missing'])}."]
    return "\n".join(lines) + "\n"


_OVER_SEEDS = "per cent with 95 % intervals (bootstrap over seeds, on these tasks; of ten seeds they cover the truth in some 90 %):"
_PAIRED = "in points, with 95 % intervals, paired on tasks and seeds; corrected: for the number of methods that are compared on the same tasks (Bonferroni):"


def _named(row: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return the name of a method, with the number of its seeds where it lacks some."""
    count = len(row["seeds"])
    return row["method"] if count == len(table["seeds"]) else f"{row['method']} ({counted(count, 'seed')})"


def _paired(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    lines = []
    for row in rows:
        cells = [row[name], f"{row['search']}, {row['split']}", row["tasks"], str(row["comparisons"])]
        for prefix in ("", "accuracy_"):
            cells.append(with_interval(row, f"{prefix}mean", f"{prefix}low", f"{prefix}high", signed=True))
            cells.append("{:+.1f} to {:+.1f}".format(*(100 * row[f"{prefix}corrected_{end}"] for end in ("low", "high"))))
        lines.append(cells)
    return markdown(["method", "", "tasks", "comparisons", "success", "corrected", "call accuracy", "corrected"], lines)


def as_csv(table: Mapping[str, Any]) -> str:
    """Return the rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table["rows"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "seeds": " ".join(map(str, row["seeds"]))} for row in table["rows"])
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
        if row["tasks"] == "all"
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
    return [row["method"], row["tasks"], *("-" if cell is None else "{:.1f} ({:.0f} to {:.0f})".format(*cell) for cell in cells)]


def _success(row: Mapping[str, Any]) -> str:
    recall = "-" if row["recall"] is None else f"{100 * row['recall']:.1f}"
    return f"{100 * row['success']:.1f} ({100 * row['success_low']:.0f} to {100 * row['success_high']:.0f}) / {recall}"
