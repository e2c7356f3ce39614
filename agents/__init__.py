"""Agents for StepTool: language-model policies, step-grained policy optimisation, evaluation, the ``steptool`` command."""

from __future__ import annotations

from typing import Any

from .algorithms import ALGORITHMS, load_algorithm

__all__ = ["ALGORITHMS", "CREDIT", "load_algorithm"]


def __getattr__(name: str) -> Any:
    if name == "CREDIT":
        from .credit.schemes import CREDIT

        return CREDIT
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
