"""What a suite of worlds plays, in words: what it leaves out of a level must not go unsaid."""

from __future__ import annotations

from collections.abc import Sequence

from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.families import FAMILIES
from steptool_env.tasks.worlds.levels import LEVELS, Dials

__all__ = ["in_words"]

_OTHERS = ("branching", "tools", "lookalikes", "entities", "page", "faults", "wording")
"""Dials that are named only where they differ from those of the level."""


def in_words(level: int, dials: Dials) -> str:
    """Return the level, the families and domains and how many there are, the number of calls, the form of replies, and every other changed dial.

    >>> from dataclasses import replace
    >>> in_words(2, replace(LEVELS[2], families=("lookup",), replies="field"))
    'level 2, family lookup (1 of 13), 8 of 10 domains, 1 to 4 calls, replies=field'
    """
    fewest, most = dials.depth
    calls = f"{fewest} to {most} calls" if fewest < most else f"{most} call{'s' if most > 1 else ''}"
    found = [f"level {level}", _chosen("family", "families", dials.families, len(FAMILIES)), _chosen("domain", "domains", dials.domains, len(DOMAINS)), calls]
    found.append(f"replies={dials.replies}")
    found += [f"{name}={getattr(dials, name)}" for name in _OTHERS if getattr(dials, name) != getattr(LEVELS[level], name)]
    return ", ".join(found)


def _chosen(one: str, several: str, names: Sequence[str], total: int) -> str:
    if len(names) > total // 2:
        return f"all {total} {several}" if len(names) == total else f"{len(names)} of {total} {several}"
    return f"{one if len(names) == 1 else several} {', '.join(names)} ({len(names)} of {total})"
