"""Splits: what a suite keeps for testing. The dials say what is trained on; a split says how it differs from that.

- ``train``; ``test``: the same kinds of task about worlds that were never seen; ``all``: the one, then the other.
- ``paraphrases``: requests in words that were never seen.
- ``compositions``: one or two calls deeper than anything that is trained on.
- ``domains``: domains that are not among those of the dials, so that no tool's name has been seen.

Every split has worlds of its own.
"""

from __future__ import annotations

import dataclasses

from steptool_env.errors import InvalidArgument
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.levels import Dials

__all__ = ["DEEPEST", "SPLITS", "parts_of", "split_dials"]

SPLITS = ("train", "test", "all", "paraphrases", "compositions", "domains")
DEEPEST = 6
"""Most calls that a task to train on may take; compositions may take two more."""


def parts_of(split: str) -> tuple[str, ...]:
    """Return the splits that it consists of."""
    return SPLITS[:2] if split == "all" else (split,)


def split_dials(split: str, dials: Dials) -> Dials:
    """Return the dials of a split of a suite with these dials.

    Raises:
        InvalidArgument: Every domain is trained on, so that none is left.
    """
    if split == "paraphrases":
        return dataclasses.replace(dials, wording="unseen")
    if split == "compositions":
        return dataclasses.replace(dials, depth=(dials.depth[1] + 1, dials.depth[1] + 2))
    if split == "domains":
        unseen = tuple(name for name in DOMAINS if name not in dials.domains)
        if not unseen:
            raise InvalidArgument(f"split 'domains' plays the domains that 'domains' leaves out, and {', '.join(dials.domains)} are all that there are")
        return dataclasses.replace(dials, domains=unseen)
    return dials
