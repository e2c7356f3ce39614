"""Ablations: every combination of the levels of some settings, with several seeds, as a grid of runs; and the table that compares them.

    ablate("runs/ablation", {"shaper.alpha": [0, 0.02, 0.1], "learning.lam": [0, 0.5, 0.9]}, seeds=5)

A factor is a setting, its levels are values; a level may also be a shaper, credit scheme, suite or algorithm of one's own, as an object or by reference.
Each cell is a run like any other, in a process of its own (see ``grid.py``): finished ones are kept, interrupted ones go on.

    <out>/ablation.md, .csv, .json   every combination, and every level over all combinations of the other factors, with intervals
          ablation.png               success by the levels of every factor
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steptool_env.errors import CheckpointError, InvalidArgument
from steptool_env.files import write_text
from steptool_env.reference import absolute_paths, is_reference, reference_to, short_name
from steptool_env.sealed import sealing

from ..config.config import locate
from ..credit.episodes import Floats
from ..rollouts.evaluate import summarize
from ..rollouts.statistics import bootstrap, paired
from ..runs.names import check_names
from .grid import Spec, cell_folder, evaluations, read_spec, run_grid
from .pictures import plot_effects
from .stored import Played, markdown, read_episodes, read_numbers, verdicts, with_interval

__all__ = ["FILES", "ablate", "ablation_spec", "as_markdown", "build", "write"]

TABLES = ("ablation.md", "ablation.csv", "ablation.json")
FILES = (*TABLES, "ablation.png")
"""What ``write`` writes."""
_MOST = 400
"""Most combinations: a typing mistake should not start a year of runs."""


def ablate(
    out: str | os.PathLike[str],
    factors: Mapping[str, Sequence[Any]],
    *,
    seeds: int | Sequence[int] = 3,
    settings: Mapping[str, Any] | None = None,
    tasks: int = 200,
    processes: int = 2,
    on_cell: Callable[[str, int, str], None] | None = None,
) -> dict[str, Any]:
    """Run every combination that is not done, write the table, and return it.

    Args:
        out: The folder; an interrupted ablation goes on there.
        factors: Setting -> its levels, at least one setting and two levels. Names as for ``Config.of``, and ``shaper.alpha`` for the keyword
            ``alpha`` of the shaper. The first level is the one that the others are compared with.
        seeds: How many seeds, from 0; or which.
        settings: Settings of all runs.
        tasks: Held-out tasks that every policy plays greedily at the end.
        processes: Runs at the same time, with one thread each.
        on_cell: As for ``run_grid``.

    Returns:
        The table, see ``build``.

    Raises:
        InvalidArgument: A factor or a level is wrong; nothing has run.
        CheckpointError: A run failed, whose ``log.txt`` says why; or ``out`` holds another grid.
    """
    spec = ablation_spec(factors, seeds=seeds, settings=settings, tasks=tasks)
    out = Path(out)
    failed = run_grid(spec, out, processes=processes, on_cell=on_cell)
    if failed:
        raise CheckpointError(f"{len(failed)} runs failed, {failed[0]} first; its log.txt says why")
    table = build(out)
    write(table, out)
    return table


def ablation_spec(
    factors: Mapping[str, Sequence[Any]], *, seeds: int | Sequence[int] = 3, settings: Mapping[str, Any] | None = None, tasks: int = 200
) -> Spec:
    """Return the grid of an ablation; arguments and errors as for ``ablate``."""
    levels = {name: [_level(value) for value in values] for name, values in factors.items()}
    if not levels:
        raise InvalidArgument("an ablation needs at least one factor, such as learning.lam=0,.5,.9")
    places: dict[tuple[Any, ...], str] = {}
    for name, values in levels.items():
        part, setting, keys = locate(name)
        if (other := places.setdefault((part, setting, *keys), name)) != name:
            raise InvalidArgument(f"the factors {other!r} and {name!r} are the same setting")
        if len({_key(value) for value in values}) < max(2, len(values)):
            raise InvalidArgument(f"factor {name!r} needs at least two levels, all different, got {values!r}")
    count = int(np.prod([len(values) for values in levels.values()]))
    if count > _MOST:
        raise InvalidArgument(f"these factors have {count:,} combinations, at most {_MOST} are run; leave out levels, or ablate one factor at a time")
    methods: dict[str, dict[str, Any]] = {}
    for combination in itertools.product(*levels.values()):
        chosen = dict(zip(levels, combination, strict=True))
        methods[_unlike(", ".join(f"{name}={level_text(value)}" for name, value in chosen.items()), methods)] = chosen
    spec = Spec(
        methods,
        list(range(seeds)) if isinstance(seeds, int) else list(seeds),
        dict(absolute_paths(dict(settings or {}))),
        {"held-out": {}},
        searches=["greedy"],
        faults=[],
        tiny={},
        tasks=tasks,
    )
    for method in methods:  # a level that cannot be shows before anything is written
        check_names(spec.config(method, 0))
    return spec


def _level(value: Any) -> Any:
    """Return a level as JSON holds it: what is called by name, such as a shaper, as a reference."""
    found = reference_to(value) if callable(value) else absolute_paths(value)
    try:
        return json.loads(json.dumps(found))
    except (TypeError, ValueError):
        raise InvalidArgument(f"a level must be a JSON value, a function or a class, got {value!r:.200}") from None


def level_text(value: Any) -> str:
    """Return a level as it is shown.

    >>> level_text(0.02), level_text("mine.py:Shaper"), level_text([1, 2]), level_text("final")
    ('0.02', 'mine-Shaper', '[1, 2]', 'final')
    """
    if isinstance(value, str):
        return short_name(value) if is_reference(value) else value
    return json.dumps(value)


def _unlike(label: str, others: Mapping[str, Any]) -> str:
    """Return a label whose folder is not that of another one."""
    taken = {cell_folder(Path(), other, 0) for other in others}
    return next(name for name in itertools.chain([label], (f"{label} #{number}" for number in itertools.count(2))) if cell_folder(Path(), name, 0) not in taken)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# -------------------------------------------------------------------- the table
def build(out: Path) -> dict[str, Any]:
    """Return the table from the stored episodes.

    ``factors``: name -> levels; ``rows``: every combination with success and its interval over tasks and seeds; ``effects``: every level over all
    combinations of the other factors, and its difference to the first level, paired on tasks and seeds; ``missing``: combinations that
    are not finished. Where levels play different tasks there is no paired difference.

    Raises:
        CheckpointError: The folder holds no ablation, or no combination is finished.
    """
    spec = read_spec(out)
    names = list(next(iter(spec.methods.values()), {}))
    if not names or any(list(chosen) != names for chosen in spec.methods.values()):
        raise CheckpointError(f"{out} holds no ablation: its methods do not differ in the same settings; steptool table --from {out} reads other grids")
    played: dict[str, list[Played]] = {}
    missing, rows = [], []
    for method, chosen in spec.methods.items():
        folders = [cell_folder(out, method, seed) for seed in spec.seeds]
        files = [evaluations(spec, folder)[0] for folder in folders]
        if not all(file.done for file in files):
            missing.append(method)
            continue
        episodes = [read_episodes(file.episodes) for file in files]
        played[method] = [Played.of(one) for one in episodes]
        reports = [read_numbers(folder / "run" / "report.json", "seconds", "env_steps", "model_tokens") for folder in folders]
        interval, summaries = bootstrap(verdicts(played[method])), [summarize(one) for one in episodes]
        row = {"levels": chosen, "success": interval.mean, "success_low": interval.low, "success_high": interval.high}
        row |= {name: float(np.mean([getattr(summary, name) for summary in summaries])) for name in ("call_accuracy", "steps")}
        rows.append(row | {f"train_{name}": float(np.mean([report[name] for report in reports])) for name in ("seconds", "env_steps", "model_tokens")})
    if not rows:
        raise CheckpointError(f"no combination of {out} is finished yet; run the ablation first")
    factors = {name: list({_key(chosen[name]): chosen[name] for chosen in spec.methods.values()}.values()) for name in names}
    effects = [effect for name in names for effect in _effects(name, factors, spec.methods, played)]
    return {"factors": factors, "seeds": spec.seeds, "tasks": spec.tasks, "settings": spec.settings, "rows": rows, "effects": effects, "missing": missing}


def _effects(
    name: str, factors: Mapping[str, Sequence[Any]], methods: Mapping[str, Mapping[str, Any]], played: Mapping[str, list[Played]]
) -> list[dict[str, Any]]:
    """Return the levels of a factor, each over those combinations of the other factors that are finished for all levels."""
    cells: dict[str, dict[str, str]] = {}
    for method, chosen in methods.items():
        cells.setdefault(_key([value for factor, value in chosen.items() if factor != name]), {})[_key(chosen[name])] = method
    whole = [by_level for by_level in cells.values() if all(method in played for method in by_level.values())]
    if not whole:
        return []
    first = [played[by_level[_key(factors[name][0])]] for by_level in whole]
    found = []
    for level in factors[name]:
        mine = [played[by_level[_key(level)]] for by_level in whole]
        success = _mean(mine)
        interval = bootstrap(success)
        effect = {"factor": name, "level": level, "combinations": len(whole), "success": interval.mean, "low": interval.low, "high": interval.high}
        same = _tasks(mine) == _tasks(first)
        difference = paired(success, _mean(first)) if same and level != factors[name][0] else None
        found.append(effect | {f"change{end}": getattr(difference, field, None) for end, field in (("", "mean"), ("_low", "low"), ("_high", "high"))})
    return found


def _mean(combinations: Sequence[list[Played]]) -> Floats:
    """(seeds, tasks) the mean verdict over the combinations."""
    return np.asarray(np.mean([verdicts(seeds) for seeds in combinations], axis=0))


def _tasks(combinations: Sequence[list[Played]]) -> list[tuple[str, ...]]:
    return [seeds[0].tasks for seeds in combinations]


def as_markdown(table: Mapping[str, Any]) -> str:
    """Return the table for people."""
    seeds = ", ".join(map(str, table["seeds"]))
    lines = [f"Success on {table['tasks']} held-out tasks, greedy, per cent with the 95 % interval over tasks and seeds. Seeds: {seeds}.", ""]
    if table["effects"]:
        several = len(table["factors"]) > 1
        about = "Every level, over all combinations of the other factors" if several else "Every level"
        lines += [f"{about}, and its difference to the first level, paired on tasks and seeds, in points:", ""]
        rows = []
        for effect in table["effects"]:
            change = "" if effect["change"] is None else with_interval(effect, "change", "change_low", "change_high", signed=True)
            rows.append([_cell(effect["factor"]), _cell(level_text(effect["level"])), with_interval(effect, "success", "low", "high"), change])
        lines += markdown(["factor", "level", "success", "difference"], rows)
    lines += ["", "Every combination:", ""]
    head = [*map(_cell, table["factors"]), "success", "call accuracy", "calls", "train s", "train env steps", "train tokens"]
    rows = []
    for row in table["rows"]:
        costs = [f"{row[f'train_{name}']:,.0f}" for name in ("seconds", "env_steps", "model_tokens")]
        shown = [with_interval(row, "success", "success_low", "success_high"), f"{100 * row['call_accuracy']:.1f}", f"{row['steps']:.2f}"]
        rows.append([*(_cell(level_text(value)) for value in row["levels"].values()), *shown, *costs])
    lines += markdown(head, rows)
    if table["missing"]:
        lines += ["", f"Not finished, and left out: {'; '.join(map(_cell, table['missing']))}."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def write(table: Mapping[str, Any], out: Path) -> list[Path]:
    """Write the files of ``FILES``; return their paths."""
    text = io.StringIO()
    flat = [{**{name: level_text(value) for name, value in row["levels"].items()}, **{k: v for k, v in row.items() if k != "levels"}} for row in table["rows"]]
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    files = [out / name for name in FILES]
    for path, content in zip(files, (as_markdown(table), text.getvalue(), json.dumps(table, indent=2)), strict=False):
        with sealing(path) as temporary:
            write_text(temporary, content)
    with sealing(files[-1]) as temporary:
        plot_effects(table, temporary, level_text)
    return files
