"""Checkpoints of a run: their files, and their content as tensors and JSON."""

from __future__ import annotations

from .files import CONFIG_FILE, claim_run, list_checkpoints, load_checkpoint, prefixed, save_checkpoint, save_tensors, unprefixed
from .generators import RandomSource, rng_state, set_rng_state
from .optimizers import flatten_optimizer, restore_optimizer
from .plain import JSON

__all__ = [
    "CONFIG_FILE",
    "JSON",
    "RandomSource",
    "claim_run",
    "flatten_optimizer",
    "list_checkpoints",
    "load_checkpoint",
    "prefixed",
    "restore_optimizer",
    "rng_state",
    "save_checkpoint",
    "save_tensors",
    "set_rng_state",
    "unprefixed",
]
