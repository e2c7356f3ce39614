"""How much of a training run is done, and the learning rate that follows from it: pure functions.

A run ends when it reaches the first of its limits: updates, environment steps, or model tokens. The share that is done is
therefore the largest share over all limits, so that the learning rate decays the same way whichever limit ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping

from steptool_env.errors import InvalidArgument

from ..credit.arrays import check_unit

__all__ = ["learning_rate", "share_done"]


def share_done(updates: int, used: Mapping[str, float], limits: Mapping[str, float | None]) -> float:
    """Share of the training that is done before its next update: 0 before the first one, 1 before the last one.

        max_k  u_k / (L_k - u_k / n)             over all limits k, at most 1

    where n updates have used u_k of L_k. At this mean rate, the last update begins when u_k / n is left. For the number of updates
    itself, u = n and the share is n / (L - 1).

    Args:
        updates: n ≥ 0, updates done.
        used: Name -> u_k ≥ 0, in the unit of its limit. Use before the first update counts as that of one update.
        limits: Name -> L_k > 0, or None for no limit; ``used`` must have every limited name.

    Returns:
        In [0, 1]; 0.0 without any limit.

    Raises:
        InvalidArgument: A number is negative, a limit is not positive, or ``used`` lacks its name.
    """
    if updates < 0 or any(amount < 0 for amount in used.values()):
        raise InvalidArgument(f"updates and what they used must not be negative, got {updates!r} and {dict(used)!r}")
    shares = [0.0]
    for name, limit in limits.items():
        if limit is None:
            continue
        if name not in used or not limit > 0:
            raise InvalidArgument(f"the limit of {name!r} must be positive, and what is used of it known, got {limit!r} and {dict(used)!r}")
        left = limit - used[name] / max(updates, 1)
        shares.append(used[name] / left if left > used[name] else float(used[name] > 0))
    return max(shares)


def learning_rate(peak: float, end: float, done: float) -> float:
    """Learning rate with linear decay.

        peak·(1 - (1 - end)·done)

    Args:
        peak: Learning rate at the start.
        end: Learning rate at the end, as a share of ``peak``, in [0, 1].
        done: Share of the training that is done, in [0, 1].

    Raises:
        InvalidArgument: ``end`` or ``done`` is outside [0, 1].
    """
    check_unit("end", end)
    check_unit("done", done)
    return peak * (1.0 - (1.0 - end) * done)
