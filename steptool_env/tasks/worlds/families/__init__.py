"""The task families: one file with one class each. Add yours here, and its name to ``levels.FAMILY_NAMES``."""

from __future__ import annotations

from steptool_env.tasks.worlds.families.aggregate import Aggregate
from steptool_env.tasks.worlds.families.arithmetic import Arithmetic
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.families.change import Change
from steptool_env.tasks.worlds.families.compare import Compare
from steptool_env.tasks.worlds.families.condition import Condition
from steptool_env.tasks.worlds.families.decline import Decline
from steptool_env.tasks.worlds.families.filter import Filter
from steptool_env.tasks.worlds.families.lookup import Lookup
from steptool_env.tasks.worlds.families.move import Move
from steptool_env.tasks.worlds.families.pages import Pages
from steptool_env.tasks.worlds.families.procedure import Procedure
from steptool_env.tasks.worlds.families.several import Several
from steptool_env.tasks.worlds.families.transfer import Transfer

__all__ = ["FAMILIES", "Family"]

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(Lookup(), Change(), Several(), Compare(), Condition(), Filter(), Pages()),
        *(Aggregate(), Arithmetic(), Procedure(), Move(), Transfer(), Decline()),
    )
}
"""Name -> family."""
