"""What a search has found, and the rows of a table with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steptool_env.errors import CheckpointError, UnknownName
from steptool_env.files import parse_json
from steptool_env.sealed import verified

__all__ = ["ABLATED", "read_settings", "tuned", "warm_start_of"]

ABLATED: dict[str, str] = dict.fromkeys(("w/o step credit", "w/o imitation", "SC only", "Con only", "reference credit"), "StepTool")
"""Row -> the method it leaves something out of, whose settings it takes where none were searched for it."""


def tuned(found: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings of every method with what a search has found for it; all begin with the warm start of the first supervised
    method of the search, also where that is not among them.

    An ablation that was not searched takes what was found for the whole method, except what it sets itself.

    Args:
        found: What ``search_settings`` returned.
        methods: Row -> settings.

    Raises:
        UnknownName: Nothing was found for one of them.
    """
    knobs: dict[str, dict[str, Any]] = {}
    for name, options in methods.items():
        if name in found:
            knobs[name] = found[name]["knobs"]
        elif ABLATED.get(name) in found:
            knobs[name] = {knob: value for knob, value in found[ABLATED[name]]["knobs"].items() if knob not in options}
        else:
            raise UnknownName("method of this search", name, found)
    warm = warm_start_of(found)
    return {name: {**warm, **options, **knobs[name]} for name, options in methods.items()}


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a search has written; raises ``CheckpointError`` if it cannot be read."""
    try:
        found = parse_json(verified(path, "run the search again: it only reads what its trials have left"))
        if not (isinstance(found, dict) and all(isinstance(entry["knobs"], dict) for entry in found.values())):
            raise TypeError("it must be an object of methods, each with its knobs")
    except (OSError, ValueError, TypeError, LookupError) as fault:
        raise CheckpointError(f"{path} holds no settings: it cannot be read ({fault})") from fault
    return found


def warm_start_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found for the first supervised method; its knobs are all about demonstrations."""
    supervised = [entry["knobs"] for entry in found.values() if entry["knobs"] and all(knob.startswith("demo_") for knob in entry["knobs"])]
    return dict(supervised[0]) if supervised else {}
