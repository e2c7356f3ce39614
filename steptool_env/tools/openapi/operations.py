"""Reading the operations of a document: what each is called, which arguments it takes, and where they go in its request."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steptool_env.tools.openapi.bodies import Body, check, read_body
from steptool_env.tools.openapi.document import Document, Unusable
from steptool_env.tools.openapi.names import distinct, tool_name
from steptool_env.tools.openapi.requests import Operation, Template
from steptool_env.tools.openapi.schemas import Schemas
from steptool_env.tools.openapi.servers import server_address
from steptool_env.tools.openapi.styles import STYLES, Parameter

__all__ = ["Entry", "Reader", "entries"]

_METHODS = ("get", "put", "post", "delete", "patch")
_OTHER_METHODS = ("head", "options", "trace", "query", "additionalOperations")
_OURS = frozenset(
    "accept content-type authorization proxy-authorization cookie host content-length transfer-encoding connection keep-alive upgrade te trailer expect".split()
)
"""Headers that are never arguments: the first three are none by OpenAPI's rules, others carry credentials or belong to the connection."""
_FLAT = frozenset(("type", "properties", "required", "description", "additionalProperties"))
"""Keywords of a body whose properties become arguments of their own."""


@dataclass(frozen=True)
class Entry:
    """An operation where it stands in the document."""

    name: str
    """The tool's."""
    method: str
    path: str
    node: Any
    file: str
    shared: tuple[Any, str]
    """The parameters of all operations of this path, and their file."""
    servers: Any
    """Its own, or its path's; None for the document's."""
    reason: str = ""
    """Why it is left out, where that is clear without a closer look."""


def entries(document: Document, reserved: Collection[str]) -> list[Entry]:
    """Return all operations, in the order of the document, each with a name of its own.

    Args:
        document: The document.
        reserved: Names that none of them gets.
    """
    found = [entry for path, item in document.root.get("paths", {}).items() if not path.startswith("x-") for entry in _of_path(document, path, item)]
    hooks = document.root.get("webhooks")
    for hook in hooks if isinstance(hooks, Mapping) else ():
        found.append(_left_out("webhook", hook, "it is a webhook: the server calls it", hook))
    names = distinct([tool_name((str(_get(entry.node, "operationId") or ""), f"{entry.method} {entry.path}", entry.method)) for entry in found], reserved)
    return [Entry(name, *[getattr(entry, field) for field in list(Entry.__dataclass_fields__)[1:]]) for name, entry in zip(names, found, strict=True)]


def _get(node: Any, key: str) -> Any:
    return node.get(key) if isinstance(node, Mapping) else None


def _left_out(method: str, path: str, reason: str, node: Any = None) -> Entry:
    return Entry("", method, path, node, "", ((), ""), None, reason)


def _of_path(document: Document, path: str, item: Any) -> Iterator[Entry]:
    try:
        target, file = document.object(item, "", f"the path {path!r}")
    except Unusable as fault:
        yield _left_out("path", path, str(fault))
        return
    if not path.startswith("/"):
        yield _left_out("path", path, f"the path {path!r} must begin with a slash")
        return
    # What stands beside a reference counts as well, and goes before what is referred to.
    parts = {key: (value, file) for key, value in target.items()} | ({key: (value, "") for key, value in item.items()} if target is not item else {})
    shared, item_servers = parts.get("parameters", ((), "")), parts.get("servers", (None, ""))[0]
    for method in (key for key in parts if key in _METHODS or key in _OTHER_METHODS):
        try:
            node, home = document.resolved(*parts[method])  # not foreseen for operations, but done
        except Unusable as fault:
            yield _left_out(method, path, str(fault))
            continue
        reason = "" if method in _METHODS else f"the method {method.upper()} is not offered: get, put, post, delete and patch are"
        if not isinstance(node, Mapping):
            reason = f"an operation must be an object, got {type(node).__name__}"
        yield Entry("", method, path, node, home, shared, _get(node, "servers") or item_servers, reason)


class Reader:
    """Turns entries into operations.

    Args:
        document: The document.
        server: Where the document's own server is; empty if that is not known, with ``problem`` saying why.
        problem: Why it is not known.
        hidden: Places and lower-case names of parameters that carry credentials, which are never arguments.
    """

    def __init__(self, document: Document, server: str, problem: str, hidden: Collection[tuple[str, str]]) -> None:
        self.document, self.schemas = document, Schemas(document)
        self._server, self._problem, self._hidden = server, problem, frozenset(hidden)

    def read(self, entry: Entry) -> tuple[Operation, dict[str, Any]]:
        """Return the operation and the JSON schema of its arguments; raises ``Unusable``."""
        if entry.reason:
            raise Unusable(entry.reason)
        server = server_address(entry.servers, self._server) if entry.servers else self._server
        if not server:
            raise Unusable(self._problem)
        template = Template.read(entry.path)
        properties: dict[str, Any] = {}
        required: list[str] = []
        parameters: dict[str, Parameter] = {}
        found = list(self._parameters(entry, template))
        for argument, (parameter, schema, needed) in zip(_arguments([parameter for parameter, _, _ in found]), found, strict=True):
            properties[argument], parameters[argument] = schema, parameter
            if needed:
                required.append(argument)
        body = read_body(entry.node["requestBody"], entry.file, self.schemas) if entry.node.get("requestBody") else None
        whole = self._add_body(body, properties, required) if body is not None else ""
        taken = {parameter.name for parameter in parameters.values() if parameter.place == "query"} | template.fixed
        taken |= {name for place, name in self._hidden if place == "query"}
        operation = Operation(entry.method.upper(), server, template, parameters, body, whole, frozenset(taken))
        return operation, self.schemas.close({"type": "object", "properties": properties, "required": required, "additionalProperties": False})

    def _parameters(self, entry: Entry, template: Template) -> Iterator[tuple[Parameter, dict[str, Any], bool]]:
        """Yield every parameter that a model may write, its schema, and whether it is required."""
        listed: dict[tuple[str, str], tuple[Mapping[str, Any], str]] = {}
        for nodes, file in (entry.shared, (entry.node.get("parameters") or (), entry.file)):  # an operation's own go before its path's
            nodes, file = self.document.resolved(nodes, file)
            if not isinstance(nodes, list | tuple):
                raise Unusable(f"its parameters must be a list, got {type(nodes).__name__}")
            for one in nodes:
                node, where = self.document.object(one, file, "a parameter")
                name, place = node.get("name"), node.get("in")
                if not isinstance(name, str) or not name or place not in (*STYLES, "cookie"):
                    raise Unusable(f"it has a parameter that is called {name!r} and stands in {place!r}, which is not known")
                listed[place, name.lower() if place == "header" else name] = node, where
        for (place, name), (node, file) in listed.items():
            if (place, name.lower()) in self._hidden or (place == "header" and name in _OURS):
                continue
            if place == "cookie":  # what a server told a browser to keep: as little a model's business as a password
                if node.get("required"):
                    raise Unusable(f"it needs the cookie {name!r}, which is no argument")
                continue
            if place == "query" and name in template.fixed:
                continue  # its path has said it
            yield self._parameter(node, place, file)

    def _parameter(self, node: Mapping[str, Any], place: str, file: str) -> tuple[Parameter, dict[str, Any], bool]:
        name, content = node["name"], node.get("content")
        if isinstance(content, Mapping) and content:
            media, about = next(iter(content.items()))
            kind = "json" if "json" in media else "text" if media.startswith("text/") and "xml" not in media else ""
            if not kind:
                raise Unusable(f"the parameter {name!r} is {media}, which is not sent")
            about, file = self.document.object(about, file, "a media type")
            parameter, raw = Parameter(name, place, "", False, media=kind), about.get("schema", {})
        else:
            style = node.get("style", STYLES[place][0])
            if style not in STYLES[place]:
                raise Unusable(f"the {place} parameter {name!r} has the style {style!r}; known there: {', '.join(STYLES[place])}")
            explode = bool(node.get("explode", style == "form"))
            parameter, raw = Parameter(name, place, style, explode, node.get("allowReserved") is True), node.get("schema", {})
        schema = self.schemas.convert(raw, file)
        check(parameter, schema, self.schemas)
        if isinstance(node.get("description"), str):
            schema = {**schema, "description": node["description"]}
        return parameter, schema, bool(node.get("required")) or place == "path"

    def _add_body(self, body: Body, properties: dict[str, Any], required: list[str]) -> str:
        """Add the body to the arguments: its properties where they can stand beside the others. Return the argument that holds it whole."""
        seen = self.schemas.look(body.schema)
        inner = seen.get("properties") or {}
        closed = seen.get("additionalProperties", False) is False and _FLAT.issuperset(seen)
        named = seen.get("required", [])
        plain = bool(inner) and closed and seen.get("type", "object") == "object" and set(named) <= set(inner)
        if plain and not set(inner) & set(properties) and (body.required or not named):
            properties.update(inner)
            required += named
            return ""
        free = [name for name in ("body", "request_body") if name not in properties]
        (whole,) = distinct(free[:1] or ["body"], properties)
        properties[whole] = body.schema
        if body.required:
            required.append(whole)
        return whole


def _arguments(parameters: list[Parameter]) -> list[str]:
    """Return what the arguments are called: like the parameters, but with the place where two have the same name."""
    names: list[str] = []
    for parameter in parameters:
        clash = [other for other in parameters if other.name == parameter.name]
        first = min(clash, key=lambda other: list(STYLES).index(other.place))
        names.append(parameter.name if parameter is first else re.sub(r"$", f"_{parameter.place}", parameter.name, count=1))
    return distinct(names, longest=1000)
