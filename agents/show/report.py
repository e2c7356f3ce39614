"""The report of a run, or of several side by side: one page with settings, curves, results, episodes and costs.

Pure functions of what a run leaves in its folder; ``runs/results.py`` writes the page and ``runs/record.py`` reads the files. The page is the same,
byte for byte, for the same files. However long a run was, it stays small: curves are thinned, texts and episodes cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from steptool_env.html import as_text, page
from steptool_env.rendering import shortened
from steptool_env.words import counted

from ..config import Config
from ..parallel.profiling import rows as profile_rows
from ..trajectory import Trajectory
from .charts import CHARTS_STYLE, number, percent
from .compared import compared_episodes
from .curves import curves
from .held_out import held_out_charts
from .page import LEGEND
from .tables import report_rows

__all__ = ["RunRecord", "report_page"]

_STYLE = """
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.v { overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: .85em; }
.headline { font-size: 1.15rem; }
summary { cursor: pointer; }
.steptool > details { margin: .8rem 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 0 1.5rem; padding: .5rem 0; }
.pair { border-top: 1px solid var(--line); }
.pair > p { grid-column: 1 / -1; margin: 0 0 .2rem; }
.pair > details { min-width: 0; }
.pair ol { padding-left: 1.6rem; }
"""


class RunRecord(NamedTuple):
    """What a run has left in its folder so far."""

    name: str
    config: Config
    metrics: list[dict[str, Any]]
    """The lines of ``metrics.jsonl``."""
    report: Mapping[str, Any] | None
    """``report.json``; None if the run has not ended."""
    before: Sequence[Trajectory]
    """The held-out episodes played before training; empty if there are none."""
    after: Sequence[Trajectory]
    """Those played after it, of the same tasks in the same order; empty if the run has not ended."""


def report_page(records: Sequence[RunRecord]) -> str:
    """Return the report as HTML.

    Args:
        records: One run, or several, which are compared; their names differ.
    """
    title = records[0].name if len(records) == 1 else f"{len(records)} runs: {', '.join(record.name for record in records)}"
    several = len(records) > 1
    body = [_summary_of_all(records) if several else _summary(records[0])]
    body += [f'<h2>Curves</h2>\n{curves([(record.name, record.metrics) for record in records])}']
    if any(record.after for record in records):
        results = [(record.name, record.before, record.after) for record in records]
        body.append(f"<h2>Held-out tasks</h2>\n{held_out_charts(results)}")
    if not several and (report := records[0].report) is not None:
        body.append(_results(report))
    for record in records:
        if record.after:
            name = f": {as_text(record.name)}" if several else ""
            body.append(f'<h2>Episodes{name}</h2>\n<p class="faint">{LEGEND}</p>\n{compared_episodes(record.before, record.after, share=len(records))}')
    if not several:
        body.append(_cost(records[0]))
    body.append(_settings(records))
    return page(title, "\n".join(body), CHARTS_STYLE + _STYLE)


# -------------------------------------------------------------------- what came out
def _summary(record: RunRecord) -> str:
    """Return the result in a sentence, and what was played."""
    config, report = record.config, record.report
    about = f"{config.learning.algo}, {config.model.name}, {config.task.suite}, shaper {config.task.shaper}, seed {config.run.seed}"
    if report is None:
        return f'<p class="headline">Not ended yet: {counted(len(record.metrics), "update")} so far.</p>\n<p class="faint">{as_text(about)}</p>'
    before = f"{_with_interval(report['before'])} before training, " if report["before"] is not None else ""
    told = f"Held-out success: {before}<b>{_with_interval(report['after'])}</b>{' after it' if before else ''}."
    details = f"{about}. {counted(report['updates'], 'update')} in {_time(report['seconds'])}."
    plays = f"\n<p class=\"faint\">{as_text(_sentence(report['plays']))}</p>" if report.get("plays") else ""
    return f'<p class="headline">{told}</p>\n<p class="faint">{as_text(details)}</p>{plays}'


def _summary_of_all(records: Sequence[RunRecord]) -> str:
    head = ("run", "success before", "success after", "call accuracy", "calls", "updates", "environment steps", "tokens", "time")
    lines = []
    for record in records:
        report = record.report
        if report is None:
            cells = ["–", "not ended", "–", "–", str(len(record.metrics)), "–", "–", "–"]
        else:
            before, after = report["before"], report["after"]
            cells = [
                _with_interval(before) if before is not None else "–",
                _with_interval(after),
                percent(after["call_accuracy"]),
                f"{after['steps']:.2f}",
                str(report["updates"]),
                *(number(float(report[name])) if name in report else "–" for name in ("env_steps", "model_tokens")),
                _time(report["seconds"]),
            ]
        lines.append([as_text(record.name), *map(as_text, cells)])
    return _table(head, lines)


def _results(report: Mapping[str, Any]) -> str:
    """Return the same table as on the terminal."""
    columns, rows = report_rows(dict(report))
    lines = [[as_text(label.strip()), *map(as_text, cells)] for label, cells in rows if not label.startswith("  ")]
    return _table(("", *columns), lines)


def _cost(record: RunRecord) -> str:
    """Return what the run cost, and in which phase of an update the time went."""
    parts = ["<h2>Cost</h2>"]
    if (report := record.report) is not None:
        told = [f"{_time(report['seconds'])} in all, evaluation included"]
        for name, label in (("env_steps", "calls in training environments"), ("model_tokens", "tokens read, written or trained on")):
            told += [f"{number(float(report[name]))} {label}"] if name in report else []
        parts.append(f"<p>{as_text('; '.join(told))}.</p>")
    if record.metrics:
        head = ("phase of an update", "seconds", "%", "tokens", "tokens/s")
        parts.append(_table(head, [list(map(as_text, row)) for row in profile_rows(record.metrics)]))
    return "\n".join(parts)


# -------------------------------------------------------------------- settings
def _settings(records: Sequence[RunRecord]) -> str:
    """Return the settings that say most, then all others folded away: those that differ among runs, or from the defaults."""
    flat, defaults = [record.config.flat() for record in records], Config().flat()
    names = list(defaults)
    if len(records) > 1:
        first = [name for name in names if len({_value(one[name]) for one in flat}) > 1]
        head, about = ("setting", *(record.name for record in records)), "Settings in which the runs differ; all others are the same."
        lines = {name: [_value(one[name]) for one in flat] for name in names}
    else:
        first = [name for name in names if flat[0][name] != defaults[name]]
        head, about = ("setting", "value", "default"), "Settings that are not the defaults."
        lines = {name: [_value(flat[0][name]), _value(defaults[name])] for name in names}
    shown = _table(head, [[as_text(name), *map(as_text, lines[name])] for name in first], values=True) if first else ""
    rest = _table(head, [[as_text(name), *map(as_text, lines[name])] for name in names if name not in first], values=True)
    if not first:
        about = "All settings are the same." if len(records) > 1 else "All settings are the defaults."
    return f"<h2>Settings</h2>\n<p>{about}</p>\n{shown}\n<details><summary>All others</summary>\n{rest}</details>"


def _value(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False, sort_keys=True), 300)


# -------------------------------------------------------------------- words
def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, values: bool = False) -> str:
    """Return a table; the cells are HTML, the names of the columns text. All but the first column hold numbers, or values as they are."""
    kind = "v" if values else "n"
    names = "".join(f"<th{f' class={chr(34)}{kind}{chr(34)}' if index else ''}>{as_text(name)}</th>" for index, name in enumerate(head))
    lines = "".join(f"<tr><td>{row[0]}</td>{''.join(f'<td class={chr(34)}{kind}{chr(34)}>{cell}</td>' for cell in row[1:])}</tr>\n" for row in rows)
    return f'<div class="wide"><table><tr>{names}</tr>\n{lines}</table></div>'


def _with_interval(evaluation: Mapping[str, Any]) -> str:
    return f"{evaluation['success']:.1%} ({percent(evaluation['success_low'])} to {percent(evaluation['success_high'])})"  # as in the table below it


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _time(seconds: float) -> str:
    """Return a time for people: seconds below two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
