"""Checkpoints of a run that survive a kill at any moment, and that contain no code (safetensors and JSON, no pickle).

    runs/<name>/checkpoints/update-00000012/
        tensors.safetensors    weights, optimizer moments, states of random generators
        state.json             everything else
        manifest.json          written last: format, update, size and SHA-256 of both files, tied tensors, its own checksum

A checkpoint is written to a hidden folder, flushed to the disk, and renamed: it exists as a whole or not at all. Reading verifies
every byte before it returns anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from steptool_env.errors import CheckpointError, InvalidArgument
from steptool_env.files import read_json

from .plain import JSON, check_json

__all__ = ["CONFIG_FILE", "claim_run", "list_checkpoints", "load_checkpoint", "prefixed", "save_checkpoint", "save_tensors", "unprefixed"]

CONFIG_FILE = "config.json"
FORMAT, VERSION = "steptool-checkpoint", 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


# ---------------------------------------------------------------- runs
def claim_run(out: Path, resume: bool) -> None:
    """Check that ``out`` may be written to; create the folder of a new run.

    A folder holds a run if it has a ``config.json``, a ``metrics.jsonl`` or a ``checkpoints`` folder.

    Raises:
        CheckpointError: ``out`` holds a run and ``resume`` is False, it holds none (no ``config.json``) and ``resume`` is
            True, or it is not a folder. Nothing is changed in these cases.
    """
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out} is not a folder; use another name")
    if resume:
        if not (out / CONFIG_FILE).is_file():
            raise CheckpointError(f"{out} holds no run to resume: it has no {CONFIG_FILE}; leave out --resume to start one")
        return
    if found := [name for name in (CONFIG_FILE, "metrics.jsonl", "checkpoints") if (out / name).exists()]:
        raise CheckpointError(f"{out} already holds a run (it has {found[0]}); use --resume or another name")
    out.mkdir(parents=True, exist_ok=True)


# ---------------------------------------------------------------- checkpoints
def save_checkpoint(run: Path, update: int, *, tensors: Mapping[str, Tensor], state: Mapping[str, JSON], keep: int = 2) -> Path:
    """Write the checkpoint of an update, then remove all but the newest ones.

    Tensors that share their memory (tied weights) are stored once and are tied again after loading. A checkpoint of the
    same update is replaced; a kill between the two renames that this takes leaves the previous checkpoint as the newest.
    Only one process may write.

    Args:
        run: The run's folder.
        update: Number of updates done, 0 or more.
        tensors: Name -> tensor, on any device; see ``prefixed`` for joining several dicts.
        state: A JSON object. Tuples come back as lists.
        keep: How many checkpoints to keep, this one included; at least 1.

    Returns:
        The folder of the checkpoint.

    Raises:
        InvalidArgument: ``update``, ``keep``, a tensor or a value of ``state`` is not of the kind above; nothing is written.
        CheckpointError: A later checkpoint exists, or the path holds something that is not a checkpoint of this package; nothing is
            overwritten.
        OSError: The disk is full or not writable; earlier checkpoints are unchanged.
    """
    if type(update) is not int or update < 0:
        raise InvalidArgument(f"update must be an integer, 0 or more, got {update!r}")
    if keep < 1:
        raise InvalidArgument(f"keep must be at least 1, got {keep!r}")
    check_json(state, "state")
    folder = _folder(run, update)
    root = folder.parent
    if later := [number for number in list_checkpoints(run) if number > update]:
        raise CheckpointError(f"cannot save update {update}: {root} holds the later update {later[-1]}; resume from it, or use another folder")
    if folder.exists():
        _manifest(folder, update)  # raises if it is not a checkpoint of this package
    unique, aliases = _untie(tensors)

    root.mkdir(parents=True, exist_ok=True)
    for leftover in (*root.glob(".new-*"), *root.glob(".old-*")):  # of a process that was killed
        shutil.rmtree(leftover)
    temporary = root / f".new-{folder.name}-{os.getpid()}"
    temporary.mkdir()
    try:
        save_tensors(unique, temporary / TENSORS)
        (temporary / STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
        manifest: dict[str, JSON] = {
            "format": FORMAT,
            "version": VERSION,
            "update": update,
            "files": {name: _fingerprint(temporary / name) for name in (TENSORS, STATE)},
            "aliases": aliases,
        }
        manifest["checksum"] = _checksum(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for name in (TENSORS, STATE, MANIFEST):
            _flush(temporary / name)
        _flush(temporary)
        replaced = _hide(folder) if folder.exists() else None
        os.rename(temporary, folder)
        if replaced is not None:
            shutil.rmtree(replaced)
    except Exception:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(root)
    for old in list_checkpoints(run)[:-keep]:
        _remove(_folder(run, old))
    return folder


def save_tensors(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write tensors and what is said about them; raises OSError if the disk is full or not writable."""
    try:
        safetensors.torch.save_file(dict(tensors), path, metadata=None if about is None else dict(about))
    except safetensors.SafetensorError as fault:  # its way to say that a file cannot be written
        raise OSError(f"{path} cannot be written: {fault}") from fault


def load_checkpoint(run: Path, update: int | None = None) -> tuple[int, dict[str, Tensor], dict[str, JSON]]:
    """Read a checkpoint, verified byte by byte.

    Args:
        run: The run's folder.
        update: Which one; None for the newest complete one. Half-written ones of a killed process do not count.

    Returns:
        The update, the tensors (on the CPU; tied ones are one object) and the state.

    Raises:
        CheckpointError: There is none, or it is corrupt, foreign, or of another format version. A corrupt newest
            checkpoint is not silently skipped; the message names the earlier ones.
    """
    complete = list_checkpoints(run)
    if update is None:
        if not complete:
            raise CheckpointError(f"{run} has no complete checkpoint")
        update = complete[-1]
    folder = _folder(run, update)
    if not folder.is_dir():
        raise CheckpointError(f"{run} has no checkpoint of update {update}; complete ones: {', '.join(map(str, complete)) or 'none'}")
    try:
        manifest = _manifest(folder, update)
        for name, expected in manifest["files"].items():
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} is incomplete: {name} is missing")
            actual = _fingerprint(folder / name)
            if actual["size"] != expected["size"]:
                raise CheckpointError(f"{folder / name} is corrupt: it has {actual['size']} bytes instead of {expected['size']}")
            if actual["sha256"] != expected["sha256"]:
                raise CheckpointError(f"{folder / name} is corrupt: its SHA-256 is not the one in {MANIFEST}")
        try:
            tensors: dict[str, Tensor] = safetensors.torch.load_file(folder / TENSORS)
            state = read_json(folder / STATE)
            tensors.update({alias: tensors[name] for alias, name in manifest["aliases"].items()})
        except (safetensors.SafetensorError, ValueError, LookupError, AttributeError) as fault:
            raise CheckpointError(f"{folder} cannot be read: {fault}") from fault
    except CheckpointError as fault:
        others = [number for number in complete if number != update]
        hint = f". Other checkpoints of this run: update {', '.join(map(str, others))}" if others else ""
        raise CheckpointError(f"{fault}{hint}") from fault
    return update, tensors, state


def list_checkpoints(run: Path) -> list[int]:
    """Return the updates that have a complete checkpoint, oldest first. Only loading verifies their contents."""
    root = run / "checkpoints"
    names = [path.parent.name for path in root.glob(f"update-*/{MANIFEST}")] if root.is_dir() else []
    return sorted(int(name[7:]) for name in names if re.fullmatch(r"update-([0-9]{8}|[1-9][0-9]{8,})", name))


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under ``"<prefix>.<name>"``, so that several dicts fit into one checkpoint."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that ``prefixed`` put under ``prefix``, under their own names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


# ---------------------------------------------------------------- parts
def _folder(run: Path, update: int) -> Path:
    return run / "checkpoints" / f"update-{update:08d}"


def _manifest(folder: Path, update: int) -> dict[str, JSON]:
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder} is no complete checkpoint: {MANIFEST} is missing")
    try:
        manifest = read_json(path)
    except ValueError as fault:
        raise CheckpointError(f"{path} is corrupt: {fault}") from fault
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{folder} is not a checkpoint of this package: its {MANIFEST} lacks the format {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise CheckpointError(f"{folder} has format version {manifest.get('version')!r}; this package reads {VERSION}")
    if manifest.get("checksum") != _checksum({key: value for key, value in manifest.items() if key != "checksum"}):
        raise CheckpointError(f"{path} is corrupt: its checksum is wrong")
    if manifest.get("update") != update:
        raise CheckpointError(f"{folder} holds update {manifest.get('update')!r}; was it renamed?")
    return manifest


def _checksum(manifest: Mapping[str, JSON]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, JSON]:
    with open(path, "rb") as file:
        return {"size": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hide(folder: Path) -> Path:
    hidden = folder.with_name(f".old-{folder.name}-{os.getpid()}")
    os.rename(folder, hidden)
    return hidden


def _remove(folder: Path) -> None:
    """Remove a checkpoint: hide it, then delete it, so that a kill leaves no half-deleted checkpoint visible."""
    shutil.rmtree(_hide(folder))


def _untie(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split into tensors that share no memory, on the CPU, and names of the very same tensor: {alias: name}."""
    unique: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[Any, str] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            raise InvalidArgument(f"tensors must map names to dense tensors with data, got {name!r}: {type(tensor).__name__}")
        same = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and same in first:
            aliases[name] = first[same]
            continue
        first[same] = name
        plain = tensor.detach().cpu().contiguous()
        # A view of a part of another tensor's memory is stored as a tensor of its own.
        if plain.untyped_storage().data_ptr() in storages or plain.untyped_storage().nbytes() != plain.numel() * plain.element_size():
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        unique[name] = plain
    return unique, aliases
