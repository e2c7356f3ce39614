"""A run's folder: its files, and how they are written and read.

runs/<name>/config.json              the settings
            metrics.jsonl, events…   metrics of every update, see trackers.py
            warm_start.safetensors   the policy after the warm start, the reference of the KL term
            checkpoints/             the newest checkpoints, see checkpoint/; a killed run resumes from the last complete one
            trajectories.jsonl       the held-out episodes played after training
            report.json, learning_curve.png
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from steptool_env.errors import CheckpointError
from steptool_env.files import replacing, write_json

from ..config import Config
from ..config.config import PARTS
from ..models.language_model import LanguageModel
from ..parallel import sharding
from ..show.curve import learning_curve
from ..trajectory import Trajectory, write_jsonl
from .checkpoint import CONFIG_FILE, list_checkpoints, load_checkpoint, unprefixed
from .trackers import read_metrics

__all__ = [
    "copy_warm_start",
    "has_warm_start",
    "load_weights",
    "read_config",
    "read_warm_start",
    "start_from",
    "trained_weights",
    "write_config",
    "write_report",
    "write_warm_start",
]

WARM_START = "warm_start.safetensors"
FORMAT = 2
"""Format of ``config.json``; format 1 had no parts."""


# -------------------------------------------------------------------- settings
def read_config(run: Path) -> Config:
    """Return the settings of a run's folder; raises ``CheckpointError`` if they are missing, broken, or of another version."""
    path = run / CONFIG_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise TypeError(f"expected an object with the parts {', '.join(PARTS)}, got {type(record).__name__}")
        version = record.pop("format", None)
        if version is None and "algo" in record:
            raise CheckpointError(
                f"{run} was made by an earlier version of this package, whose settings had no parts; it can be neither resumed nor evaluated by this one. "
                f"Train it anew: steptool train --config {path} takes its settings"
            )
        if version != FORMAT:
            raise ValueError(f"format {version!r}, this package reads {FORMAT}")
        return Config.from_dict(record)
    except FileNotFoundError:
        raise CheckpointError(f"{run} holds no run: it has no {CONFIG_FILE}") from None
    except (ValueError, TypeError, LookupError) as fault:
        raise CheckpointError(f"{path} cannot be read: {fault}") from fault


def write_config(run: Path, config: Config) -> None:
    """Write the settings; they replace any that are there."""
    write_json(run / CONFIG_FILE, {"format": FORMAT, **config.as_dict()})


# -------------------------------------------------------------------- the weights after the warm start
def has_warm_start(run: Path) -> bool:
    """Return whether the run's warm start is done."""
    return (run / WARM_START).is_file()


def warm_start_of(config: Config) -> dict[str, Any]:
    """Return the settings that the result of a warm start depends on, by part and name."""
    names = ("run.seed", "task.suite", "task.suite_options", "task.max_steps", "model.name", "model.call_format", "model.lora_rank")
    return {name: value for name, value in config.flat().items() if name in names or name.startswith("warm_start.")}


def read_warm_start(run: Path, config: Config | None = None) -> dict[str, Tensor]:
    """Return the trainable weights after the warm start, by name, verified byte by byte.

    Args:
        run: The run's folder.
        config: The settings that the warm start must belong to, unless it was taken over from another run; None does not ask.

    Raises:
        CheckpointError: The run was stopped before its warm start was done, or the file is corrupt, or is that of other settings.
    """
    path = run / WARM_START
    if not has_warm_start(run):
        raise CheckpointError(f"{run} has no weights yet: it was stopped before its warm start was done; resume it first")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        settings = json.loads(about.get("settings", "{}"))
    except (safetensors.SafetensorError, ValueError) as fault:
        raise CheckpointError(f"{path} is corrupt: {fault}") from fault
    if about.get("digest") != _digest(weights):
        raise CheckpointError(f"{path} is corrupt: its weights are not those that were written; delete it to do the warm start again")
    if config is not None and settings:
        expected = warm_start_of(config)
        differing = [f"{name} was {settings.get(name)!r} and is {value!r} now" for name, value in expected.items() if settings.get(name) != value]
        if differing:
            raise CheckpointError(f"{path} is the warm start of other settings: {', '.join(differing)}; use another folder, or delete it")
    return weights


def write_warm_start(run: Path, weights: Mapping[str, Tensor], config: Config | None = None) -> None:
    """Write the trainable weights after the warm start, whole or not at all.

    Args:
        run: The run's folder.
        weights: By name.
        config: The settings that made them; None for weights that are taken over from another run.
    """
    plain = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    about = {"digest": _digest(plain), "settings": json.dumps(warm_start_of(config) if config is not None else {})}
    with replacing(run / WARM_START) as temporary:
        safetensors.torch.save_file(plain, temporary, metadata=about)


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights: names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        found.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def copy_warm_start(source: Path, run: Path) -> None:
    """Copy the warm start of another run, if that run has one and this one has none yet.

    Args:
        source: The other run's folder.
        run: This run's; made if it is missing.
    """
    if has_warm_start(source) and not has_warm_start(run):
        weights = read_warm_start(source)
        run.mkdir(parents=True, exist_ok=True)
        write_warm_start(run, weights)


def trained_weights(run: Path, *, warm_start: bool = False) -> dict[str, Tensor]:
    """Return the newest trainable weights of a run, by name.

    Args:
        run: The run's folder.
        warm_start: Return the weights before reinforcement learning instead.

    Raises:
        CheckpointError: The run has no weights yet, or they are corrupt.
    """
    if warm_start or not list_checkpoints(run):
        return read_warm_start(run)
    return unprefixed("model", load_checkpoint(run)[1])


def start_from(source: Path, run: Path) -> None:
    """Begin a new run with the newest weights of another one as its warm start.

    Args:
        source: The other run's folder.
        run: This run's; made if it is missing.

    Raises:
        CheckpointError: The other run has no weights, or this one has already begun.
    """
    if has_warm_start(run):
        raise CheckpointError(f"{run} has begun already; name another folder, or use --resume")
    weights = trained_weights(source)
    run.mkdir(parents=True, exist_ok=True)
    write_warm_start(run, weights)


def load_weights(lm: LanguageModel, weights: Mapping[str, Tensor], run: Path) -> None:
    """Load the weights of a run into a model.

    Args:
        lm: The model; its trainable parameters are changed in place.
        weights: Full tensors by the names of ``lm.trainable()``, also if the model is sharded.
        run: The folder that they come from, for the error message.

    Raises:
        CheckpointError: The names or shapes differ from the model's.
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


# -------------------------------------------------------------------- the report
def write_report(run: Path, report: Mapping[str, Any], trajectories: Sequence[Trajectory]) -> None:
    """Write ``trajectories.jsonl``, ``report.json`` and, if the run has made updates, ``learning_curve.png``.

    Args:
        run: The run's folder.
        report: As ``Run.finish`` returns it.
        trajectories: The held-out episodes played after training.
    """
    write_jsonl(run / "trajectories.jsonl", trajectories)
    write_json(run / "report.json", report)
    if report["updates"]:
        learning_curve(read_metrics(run), dict(report), run / "learning_curve.png")
