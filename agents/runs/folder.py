"""A run's folder: what lies in it, and how its files are written and read.

runs/<name>/config.json              the settings
            metrics.jsonl, events…   what was measured, update by update; see trackers.py
            warm_start.safetensors   the policy after the warm start: what the KL term refers to
            checkpoints/             the newest ones, see checkpoint/; a killed run resumes from the last complete update
            trajectories.jsonl       the held-out episodes played after training
            report.json, learning_curve.png
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from steptool_env.errors import CheckpointError

from ..config import Config
from ..models.language_model import LanguageModel
from ..parallel import sharding
from ..show.curve import learning_curve
from ..trajectory import Trajectory, write_jsonl
from .checkpoint import CONFIG_FILE
from .trackers import read_metrics

__all__ = ["copy_warm_start", "has_warm_start", "load_weights", "read_config", "read_warm_start", "write_config", "write_report", "write_warm_start"]

WARM_START = "warm_start.safetensors"


# -------------------------------------------------------------------- settings
def read_config(run: Path) -> Config:
    """Return the settings of a run's folder; raises ``CheckpointError`` if it holds none or they are broken."""
    try:
        return Config.from_dict(json.loads((run / CONFIG_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(f"{run} holds no run: it has no {CONFIG_FILE}") from None
    except (ValueError, TypeError, LookupError) as fault:
        raise CheckpointError(f"{run / CONFIG_FILE} cannot be read: {fault}") from fault


def write_config(run: Path, config: Config) -> None:
    """Write the settings, in place of those that are there."""
    _write_json(run / CONFIG_FILE, config.as_dict())


# -------------------------------------------------------------------- the weights after the warm start
def has_warm_start(run: Path) -> bool:
    """Whether the warm start of this run was done."""
    return (run / WARM_START).is_file()


def read_warm_start(run: Path) -> dict[str, Tensor]:
    """Return the trainable weights after the warm start, by name.

    Raises:
        CheckpointError: The run was stopped before it had any, or the file is corrupt.
    """
    if not has_warm_start(run):
        raise CheckpointError(f"{run} has no weights yet: it was stopped before its warm start was done; resume it first")
    try:
        return safetensors.torch.load_file(run / WARM_START)
    except safetensors.SafetensorError as fault:
        raise CheckpointError(f"{run / WARM_START} is corrupt: {fault}") from fault


def write_warm_start(run: Path, weights: Mapping[str, Tensor]) -> None:
    """Write the trainable weights after the warm start, whole or not at all."""
    path = run / WARM_START
    unfinished = path.with_suffix(".tmp")
    safetensors.torch.save_file({name: weight.cpu().contiguous() for name, weight in weights.items()}, unfinished)
    os.replace(unfinished, path)


def copy_warm_start(source: Path, run: Path) -> None:
    """Begin a run with the warm start of another one, if that has one and this has none yet.

    Args:
        source: The other run's folder.
        run: This run's; made if it is missing.
    """
    if has_warm_start(source) and not has_warm_start(run):
        run.mkdir(parents=True, exist_ok=True)
        unfinished = (run / WARM_START).with_suffix(".tmp")
        shutil.copy(source / WARM_START, unfinished)
        os.replace(unfinished, run / WARM_START)


def load_weights(lm: LanguageModel, weights: Mapping[str, Tensor], run: Path) -> None:
    """Put weights that were read from a run into a model.

    Args:
        lm: The model; its trainable parameters are changed in place.
        weights: By the names of ``lm.trainable()``, whole, also if the model is cut up among processes.
        run: Where they come from, for the message.

    Raises:
        CheckpointError: They are not those of this model: names or shapes differ.
    """
    parameters = lm.trainable()
    if set(parameters) != set(weights):
        raise CheckpointError(f"the weights in {run} are not those of this model: {len(set(parameters) ^ set(weights))} names differ")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != weights[name].shape:
                shapes = f"{tuple(weights[name].shape)}, not {tuple(parameter.shape)}"
                raise CheckpointError(f"the weights in {run} are not those of this model: {name} has shape {shapes}")
            parameter.copy_(sharding.share_like(weights[name], parameter))


# -------------------------------------------------------------------- what a run ends with
def write_report(run: Path, report: Mapping[str, Any], trajectories: Sequence[Trajectory]) -> None:
    """Write ``trajectories.jsonl``, ``report.json`` and, of a run that has made updates, the learning curve.

    Args:
        run: The run's folder.
        report: As ``Run.finish`` returns it.
        trajectories: The held-out episodes played after training.
    """
    write_jsonl(run / "trajectories.jsonl", trajectories)
    _write_json(run / "report.json", report)
    if report["updates"]:
        learning_curve(read_metrics(run), dict(report), run / "learning_curve.png")


def _write_json(path: Path, value: Any) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(value, indent=2), encoding="utf-8")
    os.replace(unfinished, path)
