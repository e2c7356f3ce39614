"""Faults: what goes wrong in real services, and what gets over it. Each befalls one tool of a task and is met once.

A fault is a count of the calls that it still costs before the tool works, so that the distance to the goal stays exact:
``down``, ``stale`` and ``renamed`` cost one call (the first, in vain), ``limited`` two (the first, and ``wait``).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

__all__ = ["COST", "FAULTS", "draw_faults"]

COST: dict[str, int] = {"down": 1, "limited": 2, "stale": 1, "renamed": 1}
"""Fault -> calls that it costs."""

FAULTS = tuple(COST)
"""- ``down``: the first call of the tool fails; the same call works at the next try.
- ``limited``: the tool refuses every call after the first attempt, until ``wait`` is called.
- ``stale``: the first result is an outdated one, marked ``"stale": true``; the same call then returns what holds now.
- ``renamed``: the parameter that holds the id has another name than the schema says; the error tells it.
"""


def draw_faults(rng: random.Random, needed: Sequence[str], offered: Sequence[str], count: int) -> Mapping[str, str]:
    """Draw which tools are faulty, and how: tool -> fault.

    The tools that the task needs come first, so that faults are met; only tools that read are faulty, and only one is limited.

    Args:
        rng: Draws.
        needed: Tools that the plan uses.
        offered: All tools on offer.
        count: How many are faulty; fewer where there are fewer tools that read.
    """
    reads = [name for name in dict.fromkeys(needed) if _reads(name)]
    spare = [name for name in offered if _reads(name) and name not in reads]
    chosen = [*rng.sample(reads, min(count, len(reads))), *rng.sample(spare, min(max(0, count - len(reads)), len(spare)))]
    faults: dict[str, str] = {}
    for name in chosen:
        possible = [kind for kind in FAULTS if not (kind == "renamed" and name.startswith("list_")) and not (kind == "limited" and kind in faults.values())]
        faults[name] = rng.choice(possible)
    return faults


def _reads(name: str) -> bool:
    return name.startswith(("get_", "list_")) and not name.startswith("get_archived_")
