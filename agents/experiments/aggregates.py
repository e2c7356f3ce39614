"""What the field reports beside means of few runs: interquartile mean, probability of improvement, performance profile.

Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv 2108.13264). Their package, rliable, asks for
releases of its dependencies that do not go with today's pandas; the means and chances here are those of its functions on the same numbers (tests).
A score is the success of one seed on the tasks of one depth, so that the strata are depths.

What differs are the intervals: there, seeds are drawn in every stratum apart, since every stratum has trainings of its own. Here one training is
tested at all depths, and a lucky one is lucky at all of them, so whole seeds are drawn. Drawn apart, the 95 % intervals of ten seeds whose
success varies by three points cover the truth in 82 to 84 % of the cases; drawn together, in 88 to 90 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from steptool_env.errors import InvalidArgument

from ..credit.episodes import Floats
from ..rollouts.statistics import Interval

__all__ = ["THRESHOLDS", "aggregated", "interquartile_mean", "over_seeds", "probability_of_improvement"]

THRESHOLDS = np.linspace(0.0, 1.0, 11)
"""Scores at which the profiles are measured."""


def interquartile_mean(scores: Floats) -> Floats:
    """Return the mean of the middle half of all scores: of n, the int(n / 4) lowest and as many of the highest are left out.

    Args:
        scores: (..., seeds, strata); the result has the shape (...).
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def probability_of_improvement(scores: Floats, baseline: Floats) -> Floats:
    """Return the chance that a seed has a higher score than one of the baseline in the same stratum, ties counting half, averaged over strata.

    Args:
        scores: (..., seeds, strata); the result has the shape (...).
        baseline: (..., seeds of its own, strata).
    """
    mine, theirs = scores[..., :, None, :], baseline[..., None, :, :]
    return np.asarray(((mine > theirs) + 0.5 * (mine == theirs)).mean(axis=(-3, -2, -1)))


def over_seeds(measure: Callable[..., Floats], *tables: Floats, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return a measure of tables with its 95 % percentile interval: the seeds of each table are drawn with replacement, with all their strata.

    Args:
        measure: From tables (resamples, seeds, strata) to (resamples,).
        tables: (seeds, strata) each.
        resamples: Bootstrap samples.
        seed: The interval is the same for the same tables and seed.

    Raises:
        InvalidArgument: A table is empty or has another number of dimensions.
    """
    for table in tables:
        if table.ndim != 2 or not table.size:
            raise InvalidArgument(f"expected scores of shape (seeds, strata), at least one, got shape {table.shape}")
    rng = np.random.default_rng(seed)
    drawn = [table[rng.integers(len(table), size=(resamples, len(table)))] for table in tables]
    low, high = np.quantile(measure(*drawn), [0.025, 0.975])
    return Interval(float(measure(*(table[None] for table in tables))[0]), float(low), float(high))


def aggregated(scores: Mapping[str, Floats], reference: str) -> list[dict[str, Any]]:
    """Return a row per method: ``iqm``, its interquartile mean; ``improvement``, the probability of the reference's improvement over it; both
    with ``_low`` and ``_high``; and ``profile``, the share of its scores above each of ``THRESHOLDS``, each with its lower and upper end.

    Args:
        scores: Method -> (seeds, strata).
        reference: The method whose improvement over the others is measured; its own row has none, nor has any if it is not among them.
    """
    rows = []
    for method, table in scores.items():
        row: dict[str, Any] = {"method": method, **_named("iqm", over_seeds(interquartile_mean, table))}
        compared = reference in scores and method != reference
        row |= _named("improvement", over_seeds(probability_of_improvement, scores[reference], table) if compared else None)
        above = [over_seeds(lambda drawn, least=least: (drawn > least).mean(axis=(-2, -1)), table) for least in THRESHOLDS]
        rows.append({**row, "profile": [[share.mean, share.low, share.high] for share in above]})
    return rows


def _named(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
