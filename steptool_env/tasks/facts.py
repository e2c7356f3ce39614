"""What ``steptool suites`` prints: size, license, floor and installation of every registered suite."""

from __future__ import annotations

from typing import Any

from steptool_env.errors import MissingExtra
from steptool_env.tasks import SUITES, make_suite

__all__ = ["FACTS", "describe"]

FACTS: dict[str, tuple[str, str, str]] = {
    "worlds": ("generated", "0 %", "MIT (own)"),
    "bfcl": ("4 × 200 multi-turn, 2,344 single-turn", "0 of 200", "Apache-2.0"),
    "tau2": ("telecom 114 (full: 2,285); retail 114, airline 50 not official", "telecom 0 of 114, retail 7 of 114, airline 19 of 50", "MIT, Apache-2.0"),
    "agentdojo": ("97", "5 of 97", "MIT"),
    "toolbench": ("765", "0 of 765", "Apache-2.0"),
    "jsonl": ("your own", "depends", "your own"),
}
"""Name -> size, what ending at once solves (``benchmarks/suite_gold.py``), license."""


def describe() -> list[dict[str, Any]]:
    """Return one record per suite; ``install`` is the command where it is not installed, else ``""``."""
    found = []
    for name in SUITES:
        size, floor, license_name = FACTS.get(name, ("?", "?", "?"))
        record: dict[str, Any] = {"suite": name, "tasks": 0, "size": size, "floor": floor, "license": license_name, "solution": False, "progress": False}
        try:
            suite = make_suite(name)
        except MissingExtra as fault:
            found.append(record | {"about": "not installed", "install": str(fault).split("Install it with: ")[-1]})
            continue
        summary = (suite.__doc__ or "").strip().splitlines()[0]
        record |= {"tasks": len(suite), "solution": suite.has_solution, "progress": suite.has_progress, "about": summary, "install": ""}
        found.append(record)
    return found
