"""What the field reports beside means of few runs, by rliable (Agarwal et al., arXiv 2108.13264): interquartile mean, probability of
improvement, performance profiles, each with its stratified bootstrap interval.

A score is the success of one seed on the tasks of one depth, so that the strata are depths; a mean over all tasks hides what the deep ones do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import RandomState

from steptool_env.errors import missing_extra

from ..credit.episodes import Floats

__all__ = ["THRESHOLDS", "aggregated"]

THRESHOLDS = np.linspace(0.0, 1.0, 21)
"""Scores at which the profiles are measured."""


def aggregated(scores: Mapping[str, Floats], reference: str, *, resamples: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """Return a row per method: ``iqm`` (interquartile mean of its scores), ``improvement`` (the chance that a seed of the reference has a
    higher score than one of this method, ties counting half, averaged over strata), both with ``_low`` and ``_high``, and ``profile``, the shares
    of its scores above each of ``THRESHOLDS``.

    Args:
        scores: Method -> (seeds, strata).
        reference: The method whose improvement over the others is measured; its own row has none, nor has any if it is not among them.
        resamples: Of the bootstrap.
        seed: The intervals are the same for the same scores and seed.

    Raises:
        MissingExtra: rliable is not installed.
    """
    try:
        from rliable import library, metrics
    except ImportError as fault:
        raise missing_extra("interquartile means and probabilities of improvement", fault) from fault
    tables = {method: np.asarray(table, dtype=np.float64) for method, table in scores.items()}
    means, intervals = library.get_interval_estimates(tables, _alone(metrics.aggregate_iqm), reps=resamples, random_state=RandomState(seed))
    profiles, _ = library.create_performance_profile(tables, THRESHOLDS, reps=2)  # its intervals are not shown
    pairs = {method: (tables[reference], table) for method, table in tables.items() if reference in tables and method != reference}
    chances, bounds = library.get_interval_estimates(pairs, _alone(metrics.probability_of_improvement), reps=resamples, random_state=RandomState(seed))
    rows = []
    for method in tables:
        row: dict[str, Any] = {"method": method, **_with_ends("iqm", means[method], intervals[method])}
        row |= _with_ends("improvement", chances[method], bounds[method]) if method in pairs else _with_ends("improvement", None, None)
        rows.append({**row, "profile": [float(share) for share in profiles[method]]})
    return rows


def _alone(measure: Any) -> Any:
    """Return a measure as rliable asks for it: of arrays, as an array."""
    return lambda *tables: np.array([measure(*tables)])


def _with_ends(name: str, value: Any, interval: Any) -> dict[str, float | None]:
    if value is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: float(value[0]), f"{name}_low": float(interval[0, 0]), f"{name}_high": float(interval[1, 0])}
