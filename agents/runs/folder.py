"""A run's folder: its files, and how they are written and read. What is read back is verified: the settings, the metrics, the report and its
episodes by seals beside them (``steptool_env/sealed.py``), weights by digests within their files.

runs/<name>/config.json              the settings
            metrics.jsonl, events…   metrics of every update, see trackers.py
            warm_start.safetensors   the policy after the warm start, the reference of the KL term
            checkpoints/             the newest checkpoints, see checkpoint/; a killed run resumes from the last complete one
            before.jsonl, trajectories.jsonl   the held-out episodes played before and after training
            report.json, report.html, learning_curve.png   what came out, see results.py
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from steptool_env.errors import CheckpointError
from steptool_env.files import parse_json, replacing
from steptool_env.sealed import is_sealed, sealing, verified

from ..config import Config
from ..config.config import PARTS
from ..models.language_model import LanguageModel
from ..parallel import sharding
from .checkpoint import CONFIG_FILE, claim_run, list_checkpoints, load_checkpoint, save_tensors, unprefixed
from .lock import WriterLock
from .results import RESULTS
from .resuming import identity
from .trackers import repair_metrics

__all__ = [
    "check_belongs",
    "copy_warm_start",
    "has_warm_start",
    "load_weights",
    "make_way",
    "open_folder",
    "read_config",
    "read_warm_loss",
    "read_warm_start",
    "start_from",
    "trained_weights",
    "write_config",
    "write_warm_start",
]

WARM_START = "warm_start.safetensors"
FORMAT = 2
"""Format of ``config.json``; format 1 had no parts."""


# -------------------------------------------------------------------- settings
def read_config(run: str | os.PathLike[str]) -> Config:
    """Return the settings of a run's folder; raises ``CheckpointError`` if they are missing, broken, or of another version."""
    path = Path(run) / CONFIG_FILE
    try:
        record = parse_json(verified(path, f"put the original back, or begin another run: steptool train --config {path} takes its settings as they are"))
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
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{run} holds no run: it has no {CONFIG_FILE}") from None
    except (ValueError, TypeError, LookupError) as fault:
        raise CheckpointError(f"{path} cannot be read: {fault}") from fault


def write_config(run: Path, config: Config) -> None:
    """Write the settings; they replace any that are there."""
    with sealing(run / CONFIG_FILE) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **config.as_dict()}, indent=2), encoding="utf-8")


# -------------------------------------------------------------------- the weights after the warm start
def has_warm_start(run: Path) -> bool:
    """Return whether the run's warm start is done."""
    return (run / WARM_START).is_file()


def warm_start_of(config: Config) -> dict[str, Any]:
    """Return the settings that the result of a warm start depends on, by part and name."""
    names = (
        *("run.seed", "task.suite", "task.suite_options", "task.max_steps"),
        *("model.name", "model.call_format", "model.chat_template_options", "model.lora_rank"),
    )
    settings = {name: value for name, value in config.flat().items() if name in names or name.startswith("warm_start.")}
    return dict(json.loads(json.dumps(settings)))  # a tuple is a list once it has been written


def read_warm_start(run: Path, config: Config | None = None) -> dict[str, Tensor]:
    """Return the trainable weights after the warm start, by name, verified byte by byte.

    Args:
        run: The run's folder.
        config: The settings that the warm start must belong to; None does not ask.

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
        if about.get("digest") != _digest(weights, about.get("settings", ""), about.get("loss", "")):
            raise ValueError("its weights are not those that were written")
        settings = parse_json(about["settings"])
    except (safetensors.SafetensorError, ValueError) as fault:
        raise CheckpointError(f"{path} is corrupt: {fault}; delete it to do the warm start again") from fault
    if config is not None:
        expected = warm_start_of(config)
        differing = [f"{name} was {settings.get(name)!r} and is {value!r} now" for name, value in expected.items() if settings.get(name) != value]
        if differing:
            raise CheckpointError(f"{path} is the warm start of other settings: {', '.join(differing)}; use another folder, or delete it")
    return weights


def read_warm_loss(run: Path) -> float | None:
    """Return the loss of the warm start that ``read_warm_start`` has verified; None if it had none, without demonstrations."""
    with safetensors.safe_open(run / WARM_START, framework="pt") as file:
        loss = (file.metadata() or {}).get("loss", "")
    return float(loss) if loss else None


def write_warm_start(run: Path, weights: Mapping[str, Tensor], config: Config, loss: float | None = None) -> None:
    """Write the trainable weights after the warm start, whole or not at all.

    Args:
        run: The run's folder.
        weights: By name.
        config: The settings of this run.
        loss: The loss that they had at the end; None if they are not fitted to demonstrations.
    """
    plain = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    settings, value = json.dumps(warm_start_of(config)), "" if loss is None else repr(loss)
    with replacing(run / WARM_START) as temporary:
        save_tensors(plain, temporary, {"digest": _digest(plain, settings, value), "settings": settings, "loss": value})


def _digest(weights: Mapping[str, Tensor], settings: str, loss: str) -> str:
    """Return the SHA-256 of weights (names, types, shapes and bytes) and of what is said about them."""
    found = hashlib.sha256(json.dumps([settings, loss]).encode())
    for name, weight in sorted(weights.items()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        found.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def copy_warm_start(source: Path, run: Path, config: Config) -> None:
    """Copy the warm start of another run, if that run has one and this one has none yet.

    Args:
        source: The other run's folder.
        run: This run's; made if it is missing.
        config: The settings of this run; a later ``--resume`` asks whether the warm start is theirs.
    """
    if has_warm_start(source) and not has_warm_start(run):
        weights = read_warm_start(source)
        with WriterLock(run):
            write_warm_start(run, weights, config, read_warm_loss(source))


def trained_weights(run: Path, *, warm_start: bool = False) -> dict[str, Tensor]:
    """Return the newest trainable weights of a run, by name.

    Args:
        run: The run's folder.
        warm_start: Return the weights before reinforcement learning instead.

    Raises:
        CheckpointError: The run has no weights yet, or they are corrupt.
    """
    if warm_start or not list_checkpoints(run):
        return read_warm_start(run, read_config(run))
    _, tensors, state = load_checkpoint(run)
    check_belongs(state, read_config(run), run)
    return unprefixed("model", tensors)


def check_belongs(state: Mapping[str, Any], config: Config, run: Path) -> None:
    """Raise ``CheckpointError`` if a checkpoint is that of a run with other settings.

    Args:
        state: The checkpoint's, as ``Run.save`` wrote it.
        config: The settings of this run.
        run: Its folder, for the error message.
    """
    saved, expected = state.get("settings"), identity(config)
    if not isinstance(saved, dict) or saved == expected:
        return
    differing = [f"{name} was {saved.get(name)!r} and is {value!r} here" for name, value in expected.items() if saved.get(name) != value]
    raise CheckpointError(f"the checkpoints in {run} are those of another run: {', '.join(differing[:3])}; put back its own, or use another folder")


def start_from(source: Path, run: Path, config: Config) -> None:
    """Begin a new run with the newest weights of another one as its warm start.

    Args:
        source: The other run's folder.
        run: This run's; made if it is missing.
        config: The settings of this run.

    Raises:
        CheckpointError: The other run has no weights, or this one has already begun.
    """
    if has_warm_start(run):
        raise CheckpointError(f"{run} has begun already; name another folder, or use --resume")
    weights = trained_weights(source)
    with WriterLock(run):
        write_warm_start(run, weights, config)


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


# -------------------------------------------------------------------- who may write
def open_folder(run: Path, *, resume: bool) -> WriterLock:
    """Return the right to write a run's folder, which is made if it is missing.

    Raises:
        CheckpointError: As ``claim_run``, and ``WriterLock``; or where the run's last files will be lies one that this run has not written.
    """
    if run.exists() or resume:
        claim_run(run, resume)  # a folder that is not for this run stays untouched, lock and all
    lock = WriterLock(run)
    try:
        claim_run(run, resume)  # again: another process may have been faster
        for name in RESULTS:
            if (run / name).exists() and not (resume and is_sealed(run / name)):
                raise CheckpointError(f"{run / name} is not what this run wrote, and would be overwritten: move it away, or use --force to replace it")
    except BaseException:
        lock.release()
        raise
    return lock


def make_way(run: Path, *, resume: bool) -> None:
    """Remove what ``open_folder`` refuses to overwrite; of damaged metrics keep the lines that can be read, one for each update."""
    if not run.is_dir():
        return
    claim_run(run, resume)
    with WriterLock(run):
        for name in RESULTS:
            if (run / name).is_file() and not (resume and is_sealed(run / name)):
                (run / name).unlink()
        if resume:
            repair_metrics(run)
