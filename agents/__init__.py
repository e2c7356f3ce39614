"""Agents for StepTool: language-model policies, step-grained policy optimisation, evaluation, the ``steptool`` command."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["ALGORITHMS", "CREDIT", "load_algorithm"]

ALGORITHMS: dict[str, str] = {"sft": ".sft:train", "step-ppo": ".step_ppo:train", "step-ppo-offline": ".offline:train"}
"""Name -> ``"module:function"`` of the algorithm, imported when it is used: the command line starts without torch."""


def load_algorithm(name: str) -> Callable[..., Any]:
    """Return the training function of this name; raises ``UnknownName`` with what exists."""
    from steptool_env.errors import UnknownName

    if name not in ALGORITHMS:
        raise UnknownName("algorithm", name, ALGORITHMS)
    module, _, function = ALGORITHMS[name].partition(":")
    return getattr(importlib.import_module(module, __name__), function)  # type: ignore[no-any-return]


def __getattr__(name: str) -> Any:
    if name == "CREDIT":
        from .credit import CREDIT

        return CREDIT
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
