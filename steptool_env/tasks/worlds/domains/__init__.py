"""The domains: one declarative file each. Add yours here."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.domains.clinic import CLINIC
from steptool_env.tasks.worlds.domains.shop import SHOP
from steptool_env.tasks.worlds.domains.travel import TRAVEL

__all__ = ["DOMAINS"]

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (SHOP, TRAVEL, CLINIC)}
"""Name -> domain."""
