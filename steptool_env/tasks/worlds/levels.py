"""``Dials`` and ``LEVELS``: what makes tasks easy or hard."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LEVELS", "REPLIES", "WORDINGS", "Dials"]

REPLIES = ("record", "field")
"""``record``: all that is known of an entity; what is needed has to be found in it. ``field``: the one field that the call
names; short enough for a very small model."""

WORDINGS = ("seen", "unseen", "all")
"""Which paraphrases: those to train on, those that are kept to test with, or both."""


@dataclass(frozen=True)
class Dials:
    """What makes tasks easy or hard. Everything here is a keyword of the suite, too."""

    depth: tuple[int, int]
    """Fewest and most calls before ``finish``, both included; those that faults cost are not counted."""
    branching: int
    """Most things that a task asks about at once: questions, rivals in a comparison, entries that are added up."""
    tools: int
    """Tools on offer, ``finish`` not counted; more where the task needs more, fewer where the domain has no more."""
    lookalikes: int
    """How many of the tools that read have a double on offer that reads an outdated archive."""
    entities: int
    """Entities of each type in the world, at most 90."""
    page: int
    """Entries on a page of a list."""
    faults: int
    """How many tools are faulty, see ``faults.py``."""
    families: tuple[str, ...]
    domains: tuple[str, ...]
    replies: str = "record"
    """What a lookup returns, one of ``REPLIES``."""
    wording: str = "seen"
    """One of ``WORDINGS``."""


FAMILY_NAMES = (
    *("lookup", "change", "several", "compare", "condition", "filter", "pages"),
    *("aggregate", "arithmetic", "procedure", "move", "transfer", "decline"),
)
DOMAIN_NAMES = ("shop", "travel", "clinic", "library", "bank", "office", "files", "logistics")
"""What a suite plays by default; two more domains are kept for the split ``domains``."""


def _level(depth: tuple[int, int], branching: int, tools: int, lookalikes: int, entities: int, page: int, faults: int) -> Dials:
    return Dials(depth, branching, tools, lookalikes, entities, page, faults, FAMILY_NAMES, DOMAIN_NAMES)


LEVELS: dict[int, Dials] = {
    #         depth, branching, tools, look-alikes, entities, page, faults
    1: _level((1, 2), 2, 4, 0, 4, 2, 0),
    2: _level((1, 4), 2, 6, 0, 6, 3, 0),
    3: _level((2, 5), 3, 8, 1, 12, 4, 0),
    4: _level((3, 6), 3, 10, 2, 18, 5, 1),
    5: _level((4, 6), 4, 12, 3, 24, 6, 2),
}
"""Level -> dials."""
