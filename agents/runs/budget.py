"""What a run may spend: updates, steps of environments, tokens of the model."""

from __future__ import annotations

from collections.abc import Mapping

from ..config.parts import RunConfig

__all__ = ["is_left", "limits"]


def limits(run: RunConfig) -> dict[str, int | None]:
    """Return what may be spent at most, by name; None: there is no limit."""
    return {"updates": run.updates, "env_steps": run.budget_steps, "model_tokens": run.budget_tokens}


def is_left(used: Mapping[str, int], run: RunConfig) -> bool:
    """Return whether nothing is used up."""
    return all(limit is None or used[name] < limit for name, limit in limits(run).items())
