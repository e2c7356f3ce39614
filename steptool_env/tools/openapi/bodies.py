"""The body of a request: which of a document's media types is sent, and how values become its bytes.

JSON (also ``application/merge-patch+json`` and the like, each under its own name, and ``*/*``), forms (``x-www-form-urlencoded``,
and ``multipart/form-data`` whose parts are text or JSON), and texts. What takes a file, XML or another binary format is left out.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steptool_env.tools.openapi.document import Unusable
from steptool_env.tools.openapi.schemas import Schemas
from steptool_env.tools.openapi.styles import STYLES, Parameter, json_text, query, quoted, text
from steptool_env.tools.tool import BadArguments

__all__ = ["Body", "read_body"]

_KINDS = [
    ("json", re.compile(r"(?:application|text)/(?:x-)?json|[a-z]+/[\w.+-]+\+json|\*/\*|application/\*")),
    ("form", re.compile(r"application/x-www-form-urlencoded")),
    ("multipart", re.compile(r"multipart/form-data")),
    ("text", re.compile(r"text/(?!xml)[\w.+*-]+")),
]
"""The kinds of media types that are sent, the preferred ones first."""


@dataclass(frozen=True)
class Body:
    """How arguments become the body."""

    kind: str
    """``"json"``, ``"form"``, ``"multipart"`` or ``"text"``."""
    media: str
    """What ``Content-Type`` says."""
    required: bool
    schema: dict[str, Any]
    parts: Mapping[str, Parameter | str] = field(default_factory=dict)
    """Of a form: property -> how it is written, if the document says so: in a style, or as a media type."""
    taken: frozenset[str] = frozenset()
    """Of a form: the names that its properties have."""

    def write(self, value: Any) -> tuple[str, bytes]:
        """Return the content type and the bytes; raises ``BadArguments``."""
        if self.kind == "json":
            return self.media, json_text(value).encode()
        if self.kind == "text":
            return self.media, text(value, "the body").encode()
        if not isinstance(value, Mapping):
            raise BadArguments("the body is a form, which takes an object")
        if self.kind == "multipart":
            return _multipart(self._fields(value))
        written = "&".join(f"{name}={item}" for key, one in value.items() for name, item in self._pairs(key, one))
        return self.media, written.encode("ascii")

    def _pairs(self, name: str, value: Any) -> list[tuple[str, str]]:
        """The percent-encoded pairs of one property of a form."""
        part = self.parts.get(name)
        if isinstance(part, Parameter):
            pairs = query(part, value)
            if part.explode and isinstance(value, Mapping) and part.style == "form":
                for key, _ in pairs:
                    if urllib.parse.unquote(key) in self.taken:
                        raise BadArguments(f"{name}: {key!r} is the name of another field of the form")
            return pairs
        return [(quoted(text(name, "the form")), quoted(item)) for item, _ in _written(name, value, part)]

    def _fields(self, value: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """Name, text and content type of every part of a multipart form."""
        return [(text(name, "the form"), item, media) for name, one in value.items() for item, media in _written(name, one, self.parts.get(name))]


def _written(name: str, value: Any, media: Any) -> list[tuple[str, str]]:
    """Text and content type of a property: one for every item of a list; objects as JSON; none for null."""
    if media == "application/json" or isinstance(value, Mapping):
        return [(json_text(value), "application/json")]
    if isinstance(value, list):
        return [pair for item in value for pair in ([(json_text(item), "application/json")] if isinstance(item, list) else _written(name, item, media))]
    return [] if value is None else [(text(value, name), media or "")]


def _multipart(fields: list[tuple[str, str, str]]) -> tuple[str, bytes]:
    import httpx2

    if not fields:
        return "multipart/form-data; boundary=empty", b"--empty--\r\n"
    # A part without the name of a file is a field; the boundary is random, so that no value can hold it.
    request = httpx2.Request("POST", "http://localhost", files=[(name, (None, value.encode(), media or None)) for name, value, media in fields])
    content = request.read()
    return request.headers["Content-Type"], content


# ---------------------------------------------------------------- reading the document
def read_body(node: Any, file: str, schemas: Schemas) -> Body:
    """Return the body in the best of the media types that a document gives for it.

    Args:
        node: The ``requestBody``.
        file: The file in which it stands.
        schemas: Reads the schemas.

    Raises:
        Unusable: None of them can be sent; the text says why.
    """
    node, file = schemas.document.object(node, file, "the body")
    content, file = schemas.document.resolved(node.get("content"), file)
    if not isinstance(content, Mapping) or not content:
        raise Unusable("its body has no content")
    reasons = []
    for kind, pattern in _KINDS:
        for media, about in content.items():
            if pattern.fullmatch(media.partition(";")[0].strip().lower()):
                try:
                    return _read(kind, media, about, file, bool(node.get("required")), schemas)
                except Unusable as fault:
                    reasons.append(f"{media}: {fault}")
    raise Unusable(reasons[0] if reasons else f"its body is {', '.join(content)}, which is not sent: JSON, forms and texts are")


def _read(kind: str, media: str, node: Any, file: str, required: bool, schemas: Schemas) -> Body:
    node, file = schemas.document.object(node, file, "a media type")
    raw, where = schemas.document.resolved(node.get("schema", {}), file)
    schema = schemas.convert(node.get("schema", {}), file)
    seen = schemas.look(schema)
    if _is_binary(raw):
        raise Unusable("it takes a file")
    if kind == "json" and "*" in media:
        kind, media = ("text", "text/plain; charset=utf-8") if seen.get("type") == "string" else ("json", "application/json")
    if kind == "text":
        if seen.get("type", "string") != "string":
            raise Unusable(f"a text of the type {seen['type']!r} has no form")
        return Body(kind, media.replace("text/*", "text/plain"), required, {"type": "string", **schema})
    if kind == "json":
        return Body(kind, media, required, schema)
    if seen.get("type", "object") != "object":
        raise Unusable(f"a form of the type {seen['type']!r} has no form")
    encodings = node.get("encoding")
    properties = _properties(raw, where, schemas)
    parts: dict[str, Parameter | str] = {}
    for name, inner, home in properties:
        encoding = encodings.get(name) if isinstance(encodings, Mapping) else None
        part = _part(kind, name, encoding if isinstance(encoding, Mapping) else {}, inner, home, schemas)
        if part is not None:
            parts[name] = part
    taken = frozenset(name for name, _, _ in properties)
    return Body(kind, media, required, schema if "$ref" in schema else {"type": "object", **schema}, parts, taken)


def _properties(node: Any, file: str, schemas: Schemas) -> list[tuple[str, Any, str]]:
    """The properties of an object, those of the parts of an ``allOf`` included: name, resolved node, its file."""
    node, file = schemas.document.resolved(node, file)
    if not isinstance(node, Mapping):
        return []
    own, home = schemas.document.resolved(node.get("properties"), file)
    found = [(name, *schemas.document.resolved(inner, home)) for name, inner in own.items()] if isinstance(own, Mapping) else []
    for key in ("allOf", "anyOf", "oneOf"):
        for part in node.get(key) or ():
            found += _properties(part, file, schemas)
    return found


def _part(kind: str, name: str, encoding: Mapping[str, Any], node: Any, file: str, schemas: Schemas) -> Parameter | str | None:
    """How a property of a form is written; None where it follows from the value."""
    media = str(encoding.get("contentType", "")).partition(",")[0].strip()
    if {"style", "explode", "allowReserved"} & set(encoding) and (kind == "form" or "style" in encoding):
        style = encoding.get("style", "form")
        if style not in STYLES["query"] or (kind == "multipart" and style != "form"):
            raise Unusable(f"the part {name!r} has the style {style!r}, which is not known there")
        if kind == "form":
            part = Parameter(name, "query", style, bool(encoding.get("explode", style == "form")), encoding.get("allowReserved") is True)
            check(part, schemas.convert(node, file), schemas)
            return part
    if media and not _sent(media):
        raise Unusable(f"the part {name!r} is {media}, which is not sent")
    items = schemas.document.resolved(node.get("items"), file)[0] if isinstance(node, Mapping) else None
    if not media and (_is_binary(node) or _is_binary(items)):
        raise Unusable(f"the part {name!r} is a file")
    return ("application/json" if "json" in media else media) or None


_sent: Callable[[str], Any] = re.compile(r"text/(?!xml)[\w.+-]+(?:;.*)?|application/(?:[\w.-]+\+)?json(?:;.*)?").fullmatch


def check(parameter: Parameter, schema: dict[str, Any], schemas: Schemas) -> None:
    """Raise ``Unusable`` if values of a converted schema can never be written the way that a parameter is."""
    seen = schemas.look(schema)
    items, named = seen.get("items"), seen.get("properties")
    parts = {name: schemas.look(inner) for name, inner in named.items()} if isinstance(named, Mapping) else {}
    parameter.check(seen, schemas.look(items) if isinstance(items, Mapping) else {}, parts)


def _is_binary(node: Any) -> bool:
    if not isinstance(node, Mapping) or node.get("type", "string") not in ("string", "file"):
        return False
    if node.get("type") == "file" or node.get("format") == "binary":
        return True
    media = str(node.get("contentMediaType", "text/plain"))
    return "contentEncoding" not in node and not re.match(r"text/|application/(?:[\w.-]+\+)?json", media)
