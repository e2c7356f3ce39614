"""The state of random generators as tensors and JSON: torch's global ones, and those of the run."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from steptool_env.errors import CheckpointError, InvalidArgument

from .plain import JSON

__all__ = ["RandomSource", "rng_state", "set_rng_state"]

RandomSource: TypeAlias = np.random.Generator | random.Random | torch.Generator


def rng_state(sources: Mapping[str, RandomSource] | None = None) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """Return the state of torch's global generators (CPU, and CUDA if there is one) and of the given ones.

    Args:
        sources: Name -> ``numpy.random.Generator``, ``random.Random`` or ``torch.Generator`` that the run draws from.

    Returns:
        Tensors (uint8) and JSON, for ``save_checkpoint``.
    """
    tensors = {"torch.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"torch.cuda.{k}": value for k, value in enumerate(torch.cuda.get_rng_state_all())}
    state: dict[str, JSON] = {}
    for name, source in (sources or {}).items():
        if isinstance(source, torch.Generator):
            tensors[f"source.{name}"] = source.get_state()
            state[name] = {"kind": "torch"}
        elif isinstance(source, np.random.Generator):
            state[name] = {"kind": "numpy", "state": _without_arrays(source.bit_generator.state)}
        elif isinstance(source, random.Random):
            state[name] = {"kind": "python", "state": source.getstate()}
        else:
            raise InvalidArgument(f"random source {name!r} must be a numpy Generator, a random.Random or a torch.Generator, got {type(source).__name__}")
    return tensors, state


def set_rng_state(tensors: Mapping[str, Tensor], state: Mapping[str, JSON], sources: Mapping[str, RandomSource] | None = None) -> None:
    """Restore what ``rng_state`` returned, so that every generator continues its sequence.

    States of CUDA devices that this machine does not have are skipped.

    Args:
        tensors: From ``rng_state``.
        state: From ``rng_state``.
        sources: The generators to set, under the names they were saved with.

    Raises:
        CheckpointError: A state is missing or does not match its generator.
    """
    sources = sources or {}
    if set(sources) != set(state) or "torch.cpu" not in tensors:
        raise CheckpointError(f"the checkpoint holds the random states {sorted(state)}, but {sorted(sources)} are to be set")
    try:
        for name, source in sources.items():
            saved = state[name]
            if isinstance(source, torch.Generator):
                source.set_state(tensors[f"source.{name}"].clone())
            elif isinstance(source, np.random.Generator):
                source.bit_generator.state = _with_arrays(saved["state"])
            else:
                version, numbers, gauss = saved["state"]
                source.setstate((version, tuple(numbers), gauss))
        torch.set_rng_state(tensors["torch.cpu"].clone())
        for k in range(torch.cuda.device_count()):
            if (device_state := tensors.get(f"torch.cuda.{k}")) is not None:
                torch.cuda.set_rng_state(device_state, k)
    except (TypeError, ValueError, LookupError, RuntimeError) as fault:
        raise CheckpointError(f"a random state in the checkpoint does not fit: {fault}") from fault


def _without_arrays(value: Any) -> JSON:
    """The state of a numpy bit generator as JSON; some (MT19937, Philox) hold arrays."""
    if isinstance(value, dict):
        return {key: _without_arrays(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return {"array": value.dtype.str, "values": value.tolist()}
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: JSON) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"array", "values"}:
        return np.array(value["values"], dtype=value["array"])
    return {key: _with_arrays(entry) for key, entry in value.items()}
