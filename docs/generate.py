"""Write the pages that follow from the code: ``settings.md`` and ``metrics.md``.

    python docs/generate.py

``tests/project/test_generated_docs.py`` fails if a page is stale, if a setting has no description, or if a run logs a metric without one.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from steptool_agents.config import parts
from steptool_agents.config.config import PARTS
from steptool_agents.rollouts import evaluate
from steptool_agents.runs.resuming import MAY_CHANGE
from steptool_agents.show.metrics import METRICS

__all__ = ["PAGES", "descriptions"]

HERE = Path(__file__).parent
_KINDS = {
    "Count": "integer, 1 or more",
    "Amount": "integer, 0 or more",
    "Share": "number, 0 to 1",
    "Shares": "number, 0 to 1, or two of them",
    "Positive": "number above 0",
    "NotNegative": "number, 0 or more",
    "Options": "object",
    "Named": "name or reference",
    "str": "text",
    "bool": "true or false",
    "Annotated[str, AfterValidator(absolute_paths)]": "text",
    "Annotated[int, Field(ge=0, le=1)]": "0 or 1",
}
"""Annotation in ``parts.py`` -> what a person reads."""
_SETTINGS = """# Settings

This page is made by `python docs/generate.py` from `agents/config/parts.py`; a test fails if it is stale. How settings are given, and which one wins:
[Algorithms](algorithms.md#settings).

`--set learning.lr=1e-4` and `--set lr=1e-4` are the same: every name is in one part only. `shaper.alpha` is the keyword `alpha` of the shaper,
`suite.level` one of the suite, `algo.beta` one of the algorithm. Settings marked ↻ may change when a run is resumed. The defaults are those of
`tiny` on `worlds`; algorithms, other models and other suites bring their own, which `steptool train` prints at its start."""
_METRICS = """# Metrics

This page is made by `python docs/generate.py` from `agents/show/metrics.py` and `agents/rollouts/evaluate.py`; a test fails if it is stale, and another
one if a run logs a name that is not on it.

A run writes one line an update to `metrics.jsonl`, and the same numbers to TensorBoard: `tensorboard --logdir runs` shows all runs below `runs/` side by
side. Other trackers: `--set report_to=wandb,tensorboard`. `steptool report RUN` draws them as one page, and every run leaves that page when it ends
(`report.html`). In Python: `read_metrics(run)`. [A metric of your own](algorithms.md#a-metric-of-your-own) is logged beside them."""
_EVALUATIONS = """## Evaluations

`report.json` has two of them, `before` and `after` training, on the same held-out tasks, played greedily; `steptool eval --json` prints the same."""


def descriptions(source: str, name: str) -> dict[str, str]:
    """Return field -> the string that stands below it in the source of a class; fields without one are left out."""
    tree = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = _markdown(str(below.value.value))
    return found


def settings_page() -> str:
    """Return ``settings.md``."""
    source = Path(parts.__file__).read_text(encoding="utf-8")
    lines = [_SETTINGS]
    for part, kind in PARTS.items():
        told, annotations = descriptions(source, kind.__name__), _annotations(source, kind.__name__)
        lines += ["", f"## `{part}`", "", _markdown(kind.__doc__ or ""), ""]
        rows = []
        for name, default in kind().model_dump().items():
            mark = " ↻" if f"{part}.{name}" in MAY_CHANGE else ""
            rows.append([f"`{name}`{mark}", _kind(annotations[name]), f"`{json.dumps(default)}`", told.get(name, "")])
        lines += _table(["setting", "value", "default", "meaning"], rows)
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Return ``metrics.md``."""
    lines = [_METRICS]
    for group, metrics in METRICS.items():
        lines += ["", f"## {group}", ""]
        several = len({one.logged_by for one in metrics}) > 1
        head = ["metric", "unit", "meaning", *(["logged by"] if several else [])]
        lines += _table(head, [[f"`{one.name}`", one.unit, one.meaning, *([one.logged_by] if several else [])] for one in metrics])
    source = Path(evaluate.__file__).read_text(encoding="utf-8")
    told = descriptions(source, "Report")
    lines += ["", _EVALUATIONS, ""]
    lines += _table(["name", "meaning"], [[f"`{field.name}`", told.get(field.name, "")] for field in fields(evaluate.Report)])
    return "\n".join(lines) + "\n"


PAGES = {"settings.md": settings_page, "metrics.md": metrics_page}
"""File of ``docs/`` -> what makes its text."""


def _annotations(source: str, name: str) -> dict[str, str]:
    tree = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    return {node.target.id: ast.unparse(node.annotation) for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}


def _kind(annotation: str) -> str:
    """Return the kind of value in words."""
    optional = annotation.endswith(" | None")
    annotation = annotation.removesuffix(" | None")
    if annotation.startswith("Literal["):
        words = " or ".join(f"`{value}`" for value in ast.literal_eval(f"({annotation[8:-1]},)"))
    elif " | Literal[" in annotation:
        first, _, rest = annotation.partition(" | Literal[")
        words = f"{_KINDS[first]}, or {' or '.join(f'`{value}`' for value in ast.literal_eval(f'({rest[:-1]},)'))}"
    else:
        words = _KINDS[annotation]
    return f"{words}, or null" if optional else words


def _markdown(text: str) -> str:
    """Return a docstring on one line, with single backticks."""
    return " ".join(text.replace("``", "`").split())


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make(), encoding="utf-8")
