"""The tools of a domain, derived from its schema: what reads, lists and changes each type of entity.

A reading tool returns an entity's whole record or, in the other form, the one field that the call names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.values import is_options
from steptool_env.tasks.worlds.world import Reply, World
from steptool_env.tools.tool import Tool
from steptool_env.types import ToolCall

__all__ = ["WAIT", "archive_tool", "change_tool", "list_tool", "lookup", "lookup_tool", "pool", "rename", "tool_in", "tools_of", "transfer_tool"]


def tools_of(domain: str, replies: str = "record", rich: bool = False) -> Mapping[str, Tool]:
    """Return the tools of a domain by name; made once, shared by every episode.

    Args:
        domain: Its name.
        replies: See ``Dials``.
        rich: Also those that lists, links, transfers and procedures take; records then show their details.
    """
    return _pool(DOMAINS[domain], replies, rich)


def pool(domain: Domain, rich: bool) -> Mapping[str, Tool]:
    """Return the same for a domain itself."""
    return _pool(domain, "record", rich)


def tool_in(domain: Domain, replies: str, rich: bool, name: str, renamed: bool) -> Tool:
    """Return a tool of a task: one of the pool, a look-alike, or ``wait``.

    Args:
        domain: The task's domain.
        replies: See ``Dials``.
        rich: See ``tools_of``.
        name: The tool's name.
        renamed: Whether its parameter has another name than the schema says.
    """
    found = _pool(domain, replies, rich).get(name) or _look_alikes(domain, replies, rich).get(name, WAIT)
    return _with_new_name(found) if renamed else found


def lookup(kind: str, key: str, field: str | None) -> ToolCall:
    """Return the call that reads an entity: its record, or one field of it."""
    return ToolCall(lookup_tool(kind), {f"{kind}_id": key} if field is None else {f"{kind}_id": key, "field": field})


def lookup_tool(kind: str) -> str:
    """Return the name of the tool that reads this type of entity."""
    return f"get_{kind}"


def archive_tool(kind: str) -> str:
    """Return the name of the tool that reads what held some time ago."""
    return f"get_archived_{kind}"


def list_tool(domain: Domain, kind: str) -> str:
    """Return the name of the tool that lists entities of this type."""
    return f"list_{domain.plural(kind)}"


def change_tool(change: Change | Link) -> str:
    """Return the name of the tool that makes this change."""
    return f"{change.verb}_{change.entity}"


def transfer_tool(transfer: Transfer) -> str:
    """Return the name of the tool that passes an amount on."""
    return f"transfer_{transfer.what}"


# ---------------------------------------------------------------- schemas
@functools.cache
def _pool(domain: Domain, replies: str, rich: bool) -> Mapping[str, Tool]:
    return {tool.name: tool for tool in _derive(domain, replies, rich)}


@functools.cache
def _look_alikes(domain: Domain, replies: str, rich: bool) -> Mapping[str, Tool]:
    tools = [_reader(kind, entity, replies, rich, archive=True) for kind, entity in domain.entities.items()]
    return {tool.name: tool for tool in tools}


def _derive(domain: Domain, replies: str, rich: bool) -> Iterator[Tool]:
    for kind, entity in domain.entities.items():
        yield _reader(kind, entity, replies, rich)
    for change in domain.changes:
        about = f"{_capitalized(change.verb)} {domain.entities[change.entity].about}; returns a confirmation code. This cannot be undone."
        yield _changer(domain, change, about)
    if not rich:
        return
    for kind, entity in domain.entities.items():
        yield _lister(domain, kind, entity)
    for change in domain.procedures:
        about = f"{_capitalized(change.verb)} {domain.entities[change.entity].about}, which must be {change.after} before; returns a confirmation code."
        yield _changer(domain, change, f"{about} This cannot be undone.")
    for link in domain.links:
        yield from _linkers(domain, link)
    for transfer in domain.transfers:
        yield _transferrer(domain, transfer)


def _reader(kind: str, entity: Entity, replies: str, rich: bool, archive: bool = False) -> Tool:
    fields = [*entity.attributes, *entity.relations, *([*entity.details, "status"] if rich else ())]
    takes = _object({f"{kind}_id": _text(f"The id of the {kind}.")})
    if archive:
        what = f"Look up how {entity.about} was a year ago, in the archive"
        about = f"{what}: {', '.join(fields)}."
    else:
        what, about = "Look up", f"Look up {entity.about}: {', '.join(fields)}."
    if replies == "field":
        about = f"{what}, one field." if archive else f"Look up one field of {entity.about}."
        takes["properties"]["field"] = {"type": "string", "enum": fields, "description": "What to look up."}
        takes["required"].append("field")
    name = archive_tool(kind) if archive else lookup_tool(kind)
    return Tool(name, about, takes, _Read(name, kind, entity, archive), stateful=True)


def _lister(domain: Domain, kind: str, entity: Entity) -> Tool:
    filters: dict[str, Any] = {name: _text(f"Only those with this {name}: the id of a {target}.") for name, target in entity.relations.items()}
    for name, value_kind in entity.details.items():
        if is_options(value_kind):
            filters[name] = {"type": "string", "enum": value_kind.split("|"), "description": f"Only those with this {name}."}
    properties = {**filters, "page": {"type": "integer", "minimum": 1, "description": "The page, 1 by default."}}
    takes = {"type": "object", "properties": properties, "required": [], "additionalProperties": False}
    name, plural = list_tool(domain, kind), domain.plural(kind)
    about = f"List the ids of {plural}, page by page; all of them, or those that fit."
    return Tool(name, about, takes, _List(name, plural, kind, entity), stateful=True)


def _changer(domain: Domain, change: Change, about: str) -> Tool:
    takes = _object({f"{change.entity}_id": _text(f"The id of the {change.entity}.")})
    return Tool(change_tool(change), about, takes, _Act(change_tool(change), change, domain.entities[change.entity].prefix), stateful=True)


def _linkers(domain: Domain, link: Link) -> Iterator[Tool]:
    entity = domain.entities[link.entity]
    target, name = entity.relations[link.relation], change_tool(link)
    key = {f"{link.entity}_id": _text(f"The id of the {link.entity}.")}
    about = f"{_capitalized(link.verb)} {entity.about}: change its {link.relation}; returns a confirmation code. Works once, until it is undone."
    takes = _object({**key, f"new_{link.relation}": _text(f"The id of a {target}.")})
    yield Tool(name, about, takes, _Link(name, link, (domain.entities[target].prefix, target), entity), stateful=True)
    yield Tool(f"undo_{name}", f"Take back a {name}: the {link.relation} is what it was.", _object(key), _Unlink(name, link, entity), stateful=True)


def _transferrer(domain: Domain, transfer: Transfer) -> Tool:
    ends = {f"{end}_{transfer.entity}": _text(f"The id of the {transfer.entity}.") for end in ("from", "to")}
    takes = _object({**ends, "amount": {"type": "integer", "minimum": 1, "description": "How much."}})
    about = f"Transfer {transfer.what} from one {transfer.entity} to another; returns a confirmation code. This cannot be undone."
    return Tool(transfer_tool(transfer), about, takes, _Transfer(transfer_tool(transfer), transfer, domain.entities[transfer.entity]), stateful=True)


def _capitalized(verb: str) -> str:
    """Return a verb as a sentence begins with it: "Hand over" for ``hand_over``."""
    return verb.replace("_", " ").capitalize()


def _text(about: str) -> dict[str, Any]:
    return {"type": "string", "description": about}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


# ---------------------------------------------------------------- a parameter that has been renamed
class _Renamed(Tool):
    """Takes its id under another name than its schema says; the old one is let through, to be answered by the error that tells."""

    def check(self, arguments: Mapping[str, Any]) -> str:
        new = _new_name(self.parameters["required"][0])
        if new in arguments and len(arguments) == len(self.parameters["required"]):
            arguments = {self.parameters["required"][0] if name == new else name: value for name, value in arguments.items()}
        return super().check(arguments)


@functools.cache
def _with_new_name(tool: Tool) -> Tool:
    return _Renamed(tool.name, tool.description, tool.parameters, _Rename(tool), stateful=True)


def _new_name(parameter: str) -> str:
    return f"{parameter.removesuffix('_id')}_number"


def rename(call: ToolCall) -> ToolCall:
    """Return the call as a tool with a renamed parameter takes it."""
    return ToolCall(call.name, {_new_name(name) if name.endswith("_id") else name: value for name, value in call.arguments.items()})


# ---------------------------------------------------------------- what the tools do
@dataclass(frozen=True)
class _Rename:
    tool: Tool

    def __call__(self, world: World, **arguments: Any) -> Reply:
        old = str(self.tool.parameters["required"][0])
        if old in arguments:
            return world.refuse_old_name(self.tool.name, old, _new_name(old))
        found: Reply = self.tool.function(world, **{old if name == _new_name(old) else name: value for name, value in arguments.items()})
        return found


@dataclass(frozen=True)
class _Read:
    tool: str
    kind: str
    entity: Entity
    archive: bool

    def __call__(self, world: World, **arguments: str) -> Reply:
        key, field = arguments[f"{self.kind}_id"], arguments.get("field")
        if self.archive:
            return world.read_archive(self.kind, self.entity, key, field)
        return world.read(self.tool, self.kind, self.entity, key, field)


@dataclass(frozen=True)
class _List:
    tool: str
    plural: str
    kind: str
    entity: Entity

    def __call__(self, world: World, page: int = 1, **filters: str) -> Reply:
        return world.listed(self.tool, self.plural, self.kind, self.entity, filters, int(page))


@dataclass(frozen=True)
class _Act:
    tool: str
    change: Change
    prefix: str

    def __call__(self, world: World, **arguments: str) -> Reply:
        return world.change(self.tool, self.change, self.prefix, arguments[f"{self.change.entity}_id"])


@dataclass(frozen=True)
class _Link:
    tool: str
    link: Link
    ends: tuple[str, str]
    entity: Entity

    def __call__(self, world: World, **arguments: str) -> Reply:
        key, target = arguments[f"{self.link.entity}_id"], arguments[f"new_{self.link.relation}"]
        return world.link(self.tool, self.link, self.ends, self.entity, key, target)


@dataclass(frozen=True)
class _Unlink:
    tool: str
    link: Link
    entity: Entity

    def __call__(self, world: World, **arguments: str) -> Reply:
        return world.unlink(self.tool, self.link, self.entity, arguments[f"{self.link.entity}_id"])


@dataclass(frozen=True)
class _Transfer:
    tool: str
    transfer: Transfer
    entity: Entity

    def __call__(self, world: World, amount: int, **arguments: str) -> Reply:
        giver, taker = arguments[f"from_{self.transfer.entity}"], arguments[f"to_{self.transfer.entity}"]
        return world.transfer(self.tool, self.transfer, self.entity, giver, taker, int(amount))


def _wait(world: World) -> str:
    return world.wait()


WAIT = Tool("wait", "Wait until tools that are limited can be called again.", _object({}), _wait, stateful=True)
"""On offer where tools may be limited."""
