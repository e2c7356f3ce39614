"""Algorithms, one file each; no algorithm imports another.

``ALGORITHMS`` is the registry: one line per name, with the settings that differ from the defaults.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steptool_env import reference
from steptool_env.errors import InvalidArgument, UnknownName, missing_extra

__all__ = ["ALGORITHMS", "Algorithm", "algorithm_settings", "load_algorithm"]


@dataclass(frozen=True)
class Algorithm:
    """An algorithm by name."""

    entry: str
    """``"module:function"``, imported at use, so that the command line starts without torch."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings by name that differ from the defaults; presets and users may override them."""


_PLAIN: dict[str, Any] = {"lr": 8e-4, "epochs": 1, "negative": 1.0, "kl": 0.01, "entropy": 0.01, "value_passes": 0, "imitate": "none"}
"""One pass over each batch, the same weight for good and bad actions, a KL term to the policy after the warm start, no critic, nothing imitated."""

ALGORITHMS: dict[str, Algorithm] = {
    "sft": Algorithm(".sft:train"),
    "rft": Algorithm(".rft:train", {"lr": 4e-4, "imitate": "none"}),
    "step-ppo": Algorithm(".step_ppo:train"),
    "step-ppo-offline": Algorithm(".offline:train", {"kl": 0.01}),
    "ppo-final": Algorithm(".step_ppo:train", {"shaper": "final", "lam": 0.9, "imitate": "episodes"}),
    "turn-ppo": Algorithm(".step_ppo:train", {"ratio": "step"}),
    "step-reinforce": Algorithm(".step_ppo:train", {**_PLAIN, "lam": 1.0}),
    "rloo": Algorithm(".step_ppo:train", {**_PLAIN, "credit": "rloo", "group": 8}),
    "grpo": Algorithm(".step_ppo:train", {**_PLAIN, "credit": "grpo", "group": 8}),
    "process-grpo": Algorithm(".step_ppo:train", {**_PLAIN, "credit": "process-grpo", "group": 8}),
    "mt-grpo": Algorithm(".step_ppo:train", {**_PLAIN, "credit": "mt-grpo", "group": 8}),
    "gigpo": Algorithm(".step_ppo:train", {**_PLAIN, "credit": "gigpo", "group": 8}),
    "gigpo-std": Algorithm(".step_ppo:train", {**_PLAIN, "credit": "gigpo-std", "group": 8}),
    "eto": Algorithm(".eto:train", {"group": 8, "lr": 4e-4, "epochs": 1}),
    "trajectory-dpo": Algorithm(".trajectory_dpo:train", {"group": 8, "lr": 4e-4, "epochs": 1}),
    "archer-lite": Algorithm(".archer_lite:train", {**_PLAIN, "lam": 0.0, "lr": 2e-4}),
}
"""Name -> algorithm; add an entry to add one. Algorithms with the same function differ only in their settings."""


def load_algorithm(name: str) -> Callable[..., Any]:
    """Return a training function.

    Args:
        name: One of ``ALGORITHMS``, or your own: ``"module:function"``, ``"path/to/file.py"`` (its function ``train``), or
            ``"path/to/file.py:function"``. It is called as ``(config, out, resume=, console=)`` and returns the report.

    Raises:
        UnknownName: There is no such algorithm.
        InvalidArgument: The file or module cannot be imported, or has no such function.
        MissingExtra: It needs packages that are not installed.
    """
    if name not in ALGORITHMS:
        _check(name)
        train = reference.find(name, "algorithm", default="train")
        if not callable(train):
            raise InvalidArgument(f"algorithm {name!r} must be a function that takes (config, out, *, resume, console), got {train!r:.200}")
        return train  # type: ignore[no-any-return]
    module, _, function = ALGORITHMS[name].entry.partition(":")
    try:
        return getattr(importlib.import_module(module, __name__), function)  # type: ignore[no-any-return]
    except ImportError as fault:
        raise missing_extra(f"algorithm {name!r}", fault) from fault


def algorithm_settings(name: str) -> Mapping[str, Any]:
    """Return the settings, by name, in which an algorithm differs from the defaults. For your own, these are its module's ``SETTINGS``, if any.

    Args:
        name: As for ``load_algorithm``.

    Raises:
        UnknownName: There is no such algorithm.
        InvalidArgument: The file or module cannot be imported.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name].settings
    _check(name)
    settings: Mapping[str, Any] = getattr(reference.module_of(name, "algorithm"), "SETTINGS", {})
    return settings


def _check(name: str) -> None:
    if not reference.is_reference(name):
        raise UnknownName("algorithm", name, [*ALGORITHMS, *reference.FORMS])
