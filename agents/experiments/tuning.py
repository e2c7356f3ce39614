"""The search for the settings of every method of a table: the same number of trials for each, on tasks that are neither trained nor tested on.

A trial is a cell of a grid (see ``grid.py``): it has a seed that the table does not use, a small budget, and is scored by the success of greedy
play on a slice of the train split that training never draws from. Its knobs are the learning rate and two settings that matter
to the method. The first trial of a method has the first value of each knob, the default; the others are drawn from all
combinations without replacement. If trials tie, the earliest one wins.

Supervised methods are searched first, and what is found for the first of them is the warm start of all others: no method has
better demonstrations than another.

    <out>/supervised/…  <out>/others/…    the two grids
    <out>/settings.json                   method -> the best knobs, their success, and all trials; ``steptool table --settings`` reads it
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steptool_env.errors import CheckpointError, InvalidArgument, UnknownName
from steptool_env.files import parse_json, write_json
from steptool_env.sealed import sealing, verified

from ..runs.lock import WriterLock
from ..trajectory import read_jsonl
from .grid import METHODS, Spec, cell_folder, evaluations, run_grid

__all__ = ["ABLATED", "KNOBS", "SEED", "TRIALS", "VALIDATION", "draw_trials", "read_settings", "search_settings", "tuned"]

TRIALS = 6
SEED = 1000
"""The seed of all trials; a table counts its seeds from 0."""
VALIDATION: dict[str, Any] = {"split": "train", "size": 11_000, "slice": [10_000, 11_000]}
"""Keywords of ``worlds``: a thousand tasks of the train split; training draws from its first ten thousand."""

Knobs = Mapping[str, Sequence[Any]]
"""Setting -> values, the default first. ``algo_options.beta`` is the entry ``"beta"`` of ``algo_options``."""

_RATES = [3e-4, 1.5e-4, 6e-4]
_PLAIN_RATES = [8e-4, 4e-4, 2e-4]
_GROUPS: Knobs = {"lr": _PLAIN_RATES, "group": [8, 4], "negative": [1.0, 0.3]}
_DENSE: Knobs = {"lr": _RATES, "lam": [0.5, 0.9], "negative": [0.3, 1.0]}
_FINE: Knobs = {"lr": _RATES, "lam": [0.95, 1.0], "negative": [0.3, 1.0]}  # λ acts once per token here

KNOBS: dict[str, Knobs] = {
    "SFT": {"demo_lr": [2e-3, 1e-3, 4e-3], "demo_epochs": [1, 2], "demo_batch": [16, 8]},
    "RFT": {"lr": [4e-4, 2e-4, 8e-4], "epochs": [2, 1], "group": [1, 4]},
    "PPO (final)": {"lr": _RATES, "lam": [0.9, 1.0], "negative": [0.3, 1.0]},
    "ETO": {"lr": [4e-4, 2e-4, 1e-4], "algo_options.beta": [0.1, 0.5], "algo_options.imitation": [0.0, 1.0]},
    "trajectory DPO": {"lr": [4e-4, 2e-4, 1e-4], "algo_options.beta": [0.1, 0.5], "algo_options.imitation": [1.0, 0.2]},
    "ArCHer lite": {"lr": [2e-4, 1e-4, 4e-4], "algo_options.critic_lr": [1e-3, 3e-3], "negative": [1.0, 0.3]},
    "REINFORCE": {"lr": _PLAIN_RATES, "kl": [0.01, 0.0], "negative": [1.0, 0.3]},
    "RLOO": _GROUPS,
    "GRPO": _GROUPS,
    "GiGPO": _GROUPS,
    "StepTool": _DENSE,
    "w/o step credit": {"lr": _RATES, "epochs": [2, 1], "negative": [0.3, 1.0]},
    "token credit": _FINE,
    "bilevel credit": _FINE,
    "SC only": _DENSE,
    "Con only": _DENSE,
    "reference credit": {"lr": _RATES, "epochs": [2, 1], "negative": [1.0, 0.3]},
}
"""Row of the table -> its knobs: three learning rates, and two values of two knobs that act in this method."""

ANY_KNOBS: Knobs = {"lr": _RATES, "epochs": [2, 1], "negative": [0.3, 1.0]}
"""The knobs of a row that ``KNOBS`` does not name."""

ABLATED: dict[str, str] = dict.fromkeys(("w/o step credit", "SC only", "Con only", "reference credit"), "StepTool")
"""Row -> the method it leaves something out of, whose settings it takes where none were searched for it."""


def search_settings(
    out: Path,
    *,
    methods: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    trials: int = TRIALS,
    tasks: int = 100,
    validation: Mapping[str, Any] | None = None,
    knobs: Mapping[str, Knobs] | None = None,
    processes: int = 2,
    on_cell: Callable[[str, int, str], None] | None = None,
) -> dict[str, Any]:
    """Run every trial that is not done, write ``settings.json``, and return what it holds.

    Args:
        out: The search's folder; an interrupted search continues there.
        methods: Row -> settings, ``METHODS`` by default.
        settings: Settings of all trials, including the budget.
        trials: Number of trials of each method.
        tasks: Number of validation tasks.
        validation: Keywords of the suite that make the validation tasks, ``VALIDATION`` by default.
        knobs: Row -> knobs, ``KNOBS`` by default; a row that has none gets ``ANY_KNOBS``.
        processes: Trials that run at the same time.
        on_cell: As for ``run_grid``.

    Raises:
        CheckpointError: A trial failed, or ``out`` holds another search, or another process is writing it.
    """
    chosen = {name: dict(options) for name, options in (METHODS if methods is None else methods).items()}
    searched = {**dict.fromkeys(chosen, ANY_KNOBS), **(KNOBS if knobs is None else knobs)}
    base = Spec(
        seeds=[SEED],
        settings=dict(settings or {}),
        splits={"validation": dict(VALIDATION if validation is None else validation)},
        searches=["greedy"],
        faults=[],
        tasks=tasks,
    )
    run = {"processes": processes, "on_cell": on_cell}
    supervised, others = ({name: options for name, options in chosen.items() if (options.get("algo") == "sft") is is_sft} for is_sft in (True, False))
    with WriterLock(out):
        found = _stage(replace(base, methods=_cells(supervised, searched, trials)), supervised, searched, trials, out / "supervised", **run)
        cells = tuned(found, supervised)  # so that the grid fits the warm start once
        base = replace(base, settings={**base.settings, **_warm_start(found)})
        found |= _stage(replace(base, methods=cells | _cells(others, searched, trials)), others, searched, trials, out / "others", **run)
        with sealing(out / "settings.json") as temporary:
            write_json(temporary, found)
    return found


def draw_trials(knobs: Knobs, count: int) -> list[dict[str, Any]]:
    """Return settings of the trials of a method: the defaults first, then different combinations, the same ones every time.

    Args:
        knobs: Setting -> values.
        count: How many; fewer if there are not so many combinations.
    """
    if count < 1:
        raise InvalidArgument(f"a search needs at least 1 trial, got {count!r}")
    everything = [dict(zip(knobs, values, strict=True)) for values in itertools.product(*knobs.values())]
    order = 1 + np.random.default_rng(SEED).permutation(len(everything) - 1)
    return [everything[index] for index in (0, *order[: count - 1])]


def tuned(found: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings of every method with what a search has found for it; all begin with the warm start of the first supervised
    method of the search, also where that is not among them.

    An ablation that was not searched takes what was found for the whole method, except what it sets itself.

    Args:
        found: What ``search_settings`` returned.
        methods: Row -> settings.

    Raises:
        UnknownName: Nothing was found for one of them.
    """
    knobs: dict[str, dict[str, Any]] = {}
    for name, options in methods.items():
        if name in found:
            knobs[name] = found[name]["knobs"]
        elif ABLATED.get(name) in found:
            knobs[name] = {knob: value for knob, value in found[ABLATED[name]]["knobs"].items() if knob not in options}
        else:
            raise UnknownName("method of this search", name, found)
    warm = _warm_start(found)
    return {name: {**warm, **options, **knobs[name]} for name, options in methods.items()}


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a search has written; raises ``CheckpointError`` if it cannot be read."""
    try:
        found = parse_json(verified(path, "run the search again: it only reads what its trials have left"))
        if not (isinstance(found, dict) and all(isinstance(entry["knobs"], dict) for entry in found.values())):
            raise TypeError("it must be an object of methods, each with its knobs")
    except (OSError, ValueError, TypeError, LookupError) as fault:
        raise CheckpointError(f"{path} holds no settings: it cannot be read ({fault})") from fault
    return found


def _warm_start(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found for the first supervised method; its knobs are all about demonstrations."""
    supervised = [entry["knobs"] for entry in found.values() if entry["knobs"] and all(knob.startswith("demo_") for knob in entry["knobs"])]
    return dict(supervised[0]) if supervised else {}


def _cells(methods: Mapping[str, Mapping[str, Any]], knobs: Mapping[str, Knobs], trials: int) -> dict[str, dict[str, Any]]:
    return {_cell(name, k): {**options, **values} for name, options in methods.items() for k, values in enumerate(draw_trials(knobs[name], trials))}


def _stage(spec: Spec, methods: Mapping[str, Any], knobs: Mapping[str, Knobs], trials: int, out: Path, **run: Any) -> dict[str, Any]:
    """Run the trials of some methods, cells of this grid, and return what is best."""
    if not methods:
        return {}
    failed = run_grid(spec, out, **run)
    if failed:
        raise CheckpointError(f"{len(failed)} trials failed, {failed[0]} first; its log.txt says why")
    found = {}
    for name in methods:
        drawn = draw_trials(knobs[name], trials)
        success = [_success(spec, out, _cell(name, k)) for k in range(len(drawn))]
        best = int(np.argmax(success))  # the first one wins a tie
        tried = [{"knobs": values, "success": value} for values, value in zip(drawn, success, strict=True)]
        found[name] = {**tried[best], "trials": tried}
    return found


def _cell(method: str, trial: int) -> str:
    return f"{method} trial {trial}"


def _success(spec: Spec, out: Path, cell: str) -> float:
    (evaluation,) = evaluations(spec, cell_folder(out, cell, SEED))
    return float(np.mean([episode.success for episode in read_jsonl(evaluation.episodes)]))
