"""The tools of a domain, derived from its schema: one that reads each type of entity, one for each change.

A reading tool returns an entity's whole record or, in the other form, the one field that the call names.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from steptool_env.tasks.worlds.domain import Change, Domain
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.world import World
from steptool_env.tools.tool import Tool
from steptool_env.types import ToolCall, ToolResult

__all__ = ["change_tool", "lookup", "lookup_tool", "tools_of"]


@functools.cache
def tools_of(domain: str, replies: str = "record") -> dict[str, Tool]:
    """Return all tools of a domain by name; made once, shared by every episode. ``replies``: see ``Dials``."""
    return {one.name: one for one in _derive(DOMAINS[domain], replies)}


def lookup(kind: str, key: str, field: str | None) -> ToolCall:
    """Return the call that reads an entity: its record, or one field of it."""
    return ToolCall(lookup_tool(kind), {f"{kind}_id": key} if field is None else {f"{kind}_id": key, "field": field})


def lookup_tool(kind: str) -> str:
    """Return the name of the tool that reads this type of entity."""
    return f"get_{kind}"


def change_tool(change: Change) -> str:
    """Return the name of the tool that makes this change."""
    return f"{change.verb}_{change.entity}"


def _derive(domain: Domain, replies: str) -> list[Tool]:
    tools = []
    for kind, entity in domain.entities.items():
        fields = [*entity.attributes, *entity.relations]
        read, takes = _Read(kind, entity.prefix), _takes_id(kind)
        about = f"Look up {entity.about}: {', '.join(fields)}."
        if replies == "field":
            about = f"Look up one field of {entity.about}."
            takes["properties"]["field"] = {"type": "string", "enum": fields, "description": "What to look up."}
            takes["required"].append("field")
        tools.append(Tool(lookup_tool(kind), about, takes, read, stateful=True))
    for change in domain.changes:
        entity = domain.entities[change.entity]
        act = _Act(change_tool(change), change, entity.prefix)
        about = f"{change.verb.capitalize()} {entity.about}; returns a confirmation code. This cannot be undone."
        tools.append(Tool(change_tool(change), about, _takes_id(change.entity), act, stateful=True))
    return tools


def _takes_id(kind: str) -> dict[str, Any]:
    key = f"{kind}_id"
    return {
        "type": "object",
        "properties": {key: {"type": "string", "description": f"The id of the {kind}."}},
        "required": [key],
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class _Read:
    kind: str
    prefix: str

    def __call__(self, world: World, **arguments: str) -> str | ToolResult:
        return world.read(self.kind, self.prefix, arguments[f"{self.kind}_id"], arguments.get("field"))


@dataclass(frozen=True)
class _Act:
    tool: str
    change: Change
    prefix: str

    def __call__(self, world: World, **arguments: str) -> str | ToolResult:
        return world.change(self.tool, self.change, self.prefix, arguments[f"{self.change.entity}_id"])
