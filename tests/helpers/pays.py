"""A reward that pays for every call, so that there is something to imitate in whatever a model plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.types import Transition

PAYS = f"{__file__}:pays"
"""It as the setting ``shaper``."""


def pays(episode: Sequence[Transition], /) -> Mapping[str, float]:
    """Return 1 for the last step, whatever it was."""
    return {"paid": 1.0}
