"""The curves of a report: one chart for each thing that one asks of a run, from the lines of ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.types import ERRORS

from .charts import Series, lines
from .metrics import METRICS, metric

__all__ = ["curves"]

Updates = Sequence[Mapping[str, Any]]

_TOGETHER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Success and calls, training tasks", ("success", "call_accuracy", "call_success")),
    ("Reward and its parts, per episode", ("reward", "reward/*")),
    ("Calls with an error, by kind", ("errors/*",)),
    ("Calls per episode", ("steps",)),
    ("Tokens per call", ("action_length",)),
    ("KL divergence, nats per token", ("kl", "approx_kl")),
    ("Entropy, nats per token", ("entropy",)),
    ("Explained variance of the critic", ("explained_variance",)),
    ("Tokens per second", ("tokens_per_second",)),
)
"""Title -> the metrics that a report of one run shows in this chart; ``*`` stands for all names that begin so."""
_SHARES = ("success", "call_accuracy", "call_success", "errors/", "clip_fraction", "accuracy")
_HIDDEN = ("seconds/", "tokens/")
"""What the table of phases shows."""
_MOST_PARTS, _MOST_OWN, _MOST_OTHERS = 12, 24, 24
"""Most parts of the reward, own metrics, and further metrics: a page stays small whatever a program logs."""


def curves(runs: Sequence[tuple[str, Updates]]) -> str:
    """Return the charts: of one run, what belongs together in one chart; of several, one chart for each metric with a line for each run.

    Args:
        runs: Name and the lines of ``metrics.jsonl``, each with ``"update"``.
    """
    if not any(updates for _, updates in runs):
        return '<p class="faint">No updates.</p>'
    logged = list(dict.fromkeys(name for _, updates in runs for line in updates for name, value in line.items() if _is_number(value)))
    logged = [name for name in logged if name != "update"]
    shown, main = set[str](), list[str]()
    for title, patterns in _TOGETHER:
        names = [name for pattern in patterns for name in _matching(pattern, logged, runs)]
        shown |= set(names)
        if names:
            parts = any(pattern.endswith("*") for pattern in patterns)
            main += [_chart(title, names, runs, named=parts or len(names) > 1)] if len(runs) == 1 else [_chart(name, [name], runs) for name in names]
        elif patterns == ("errors/*",) and any(name.startswith("errors/") for name in logged):
            main.append(f'<figure><figcaption>{title}</figcaption><p class="faint">No call had an error.</p></figure>\n')
    own = [name for name in logged if metric(name) is None][:_MOST_OWN]
    known = [found.name for group in METRICS.values() for found in group]
    others = [name for name in known if name in logged and name not in shown][:_MOST_OTHERS]
    page = [f'<div class="charts">\n{"".join(main)}</div>']
    if own:
        page.append(f'<h3>Your own metrics</h3>\n<div class="charts">\n{"".join(_chart(name, [name], runs) for name in own)}</div>')
    if others:
        charts = "".join(_chart(name, [name], runs) for name in others)
        page.append(f'<details><summary>Further metrics</summary>\n<div class="charts">\n{charts}</div></details>')
    return "\n".join(page)


def _matching(pattern: str, logged: Sequence[str], runs: Sequence[tuple[str, Updates]]) -> list[str]:
    """Return the logged names that a pattern stands for; of errors only the kinds that occurred, in their order."""
    if not pattern.endswith("*"):
        return [pattern] if pattern in logged else []
    found = [name for name in logged if name.startswith(pattern[:-1])]
    if pattern == "errors/*":
        occurred = {name for name in found for _, updates in runs for line in updates if _number(line.get(name)) > 0.0}
        return [f"errors/{kind}" for kind in ERRORS[1:] if f"errors/{kind}" in occurred]
    return found[:_MOST_PARTS]


def _chart(title: str, names: Sequence[str], runs: Sequence[tuple[str, Updates]], *, named: bool = False) -> str:
    series = []
    for run, updates in runs:
        for name in names:
            points = [(float(line["update"]) + 1.0, _number(line.get(name))) for line in updates if name in line]
            series.append(Series(run if len(runs) > 1 else name.partition("/")[2] or name if named else "", points))
    return lines(title, series, share=all(name.startswith(_SHARES) for name in names))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> float:
    return float(value) if _is_number(value) else float("nan")
