"""The domains: one declarative file each. Add yours here."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.domains.bank import BANK
from steptool_env.tasks.worlds.domains.clinic import CLINIC
from steptool_env.tasks.worlds.domains.files import FILES
from steptool_env.tasks.worlds.domains.library import LIBRARY
from steptool_env.tasks.worlds.domains.logistics import LOGISTICS
from steptool_env.tasks.worlds.domains.office import OFFICE
from steptool_env.tasks.worlds.domains.restaurant import RESTAURANT
from steptool_env.tasks.worlds.domains.school import SCHOOL
from steptool_env.tasks.worlds.domains.shop import SHOP
from steptool_env.tasks.worlds.domains.travel import TRAVEL

__all__ = ["DOMAINS", "UNSEEN"]

DOMAINS: dict[str, Domain] = {
    domain.name: domain for domain in (SHOP, TRAVEL, CLINIC, LIBRARY, BANK, OFFICE, FILES, LOGISTICS, SCHOOL, RESTAURANT)
}
"""Name -> domain."""

UNSEEN = ("school", "restaurant")
"""Domains that are kept for the split ``domains``: no other split shows their tools, unless it is asked to."""
