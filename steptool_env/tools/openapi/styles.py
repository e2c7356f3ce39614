"""How the value of a parameter is written: ``style`` and ``explode`` of OpenAPI, which are the expansions of RFC 6570.

What is written can be read back: every sign that has a meaning in its place is percent-encoded, and a value that a style cannot
tell from another one (a comma in an item of a header, a space in a list that spaces divide) is refused as ``BadArguments``. What RFC 6570 leaves out
is left out: null, and empty lists and objects. Beyond it, ``deepObject`` is nested as deep as the value, list items with their
number: ``a[b][0]=x``.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steptool_env.jsontext import dumps
from steptool_env.tools.openapi.document import Unusable
from steptool_env.tools.tool import BadArguments

__all__ = ["STYLES", "Parameter", "header", "in_path", "json_text", "leads_elsewhere", "plain", "query", "quoted", "text"]

STYLES = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
}
"""The styles of every place; the first one is the default."""
_DELIMITERS = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}
_WHOLE = 1e21
"""From here on JavaScript, too, writes a number with an exponent."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation, or one property of a form."""

    name: str
    """What it is called in the request."""
    place: str
    """``"path"``, ``"query"`` or ``"header"``."""
    style: str
    explode: bool
    reserved: bool = False
    """Whether reserved signs that have no meaning there may stand as they are (``allowReserved``)."""
    media: str = ""
    """``"json"`` or ``"text"`` if it is written as a media type says (``content``), not in a style."""

    def check(self, schema: Mapping[str, Any], inner: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise ``Unusable`` if values of this schema can never be written.

        Args:
            schema: The schema of the parameter.
            inner: That of its items.
            named: Those of its properties.
        """
        if self.media == "json" or self.style == "deepObject":
            return
        kind = schema.get("type")
        if self.media == "text" and kind in ("array", "object"):
            raise Unusable(f"the {self.place} parameter {self.name!r} is an {kind}, which is no text")
        nested = next((part for part in (inner, *named.values()) if part.get("type") in ("array", "object")), None)
        if kind in ("array", "object") and nested is not None:
            raise Unusable(f"the {self.place} parameter {self.name!r} holds {nested['type']}s within an {kind}: the style {self.style!r} has no form for that")


# ---------------------------------------------------------------- values
def plain(value: Any) -> Any:
    """Return a value with whole numbers for floats that are whole: ``7.0`` is ``7``, which every server takes for an integer."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _WHOLE else value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def json_text(value: Any) -> str:
    """Return JSON text; raises ``BadArguments``."""
    try:
        written = dumps(value)
        written.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as fault:
        raise BadArguments(f"it cannot be written as JSON: {fault}") from None
    return written


def text(value: Any, where: str) -> str:
    """Return a single value as text; raises ``BadArguments`` for lists, objects, null and what is no Unicode text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError as fault:  # thousands of digits
            raise BadArguments(f"{where}: {fault}") from None
    if isinstance(value, float) and abs(value) < float("inf"):
        return json.dumps(plain(value))
    if not isinstance(value, str):
        kind = {dict: "an object", list: "a list", type(None): "null"}.get(type(value), repr(value))
        raise BadArguments(f"{where}: {kind} cannot be written here")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadArguments(f"{where}: half of a surrogate pair is no text") from None
    return value


def quoted(value: str, safe: str = "") -> str:
    """Percent-encode a text, in upper case; letters, digits and ``-._~`` stay."""
    return urllib.parse.quote(value, safe=safe)


# ---------------------------------------------------------------- the path
def in_path(parameter: Parameter, value: Any) -> str:
    """Return what takes the place of ``{name}``; raises ``BadArguments`` for what would leave it."""
    where = parameter.name
    if parameter.media:
        return _of_path(json_text(value) if parameter.media == "json" else text(value, where), where)
    style, explode = parameter.style, parameter.explode
    begin, between, own = {"simple": ("", ",", ""), "label": (".", ".", ""), "matrix": (";", ";", f"{quoted(where)}=")}[style]
    if isinstance(value, Mapping):
        pairs = [(_of_path(text(key, where), where), _of_path(text(item, where), where)) for key, item in value.items() if item is not None]
        parts = [f"{key}={item}" for key, item in pairs] if explode else [item for pair in pairs for item in pair]
        own = "" if explode else own
    elif isinstance(value, list):
        parts = [_of_path(text(item, where), where) for item in value]
        parts = [own + part for part in parts] if explode else parts
        own = "" if explode else own
    else:
        return begin + own + _of_path(text(value, where), where)
    if not parts:
        raise BadArguments(f"{where}: a part of the path cannot be empty")
    if style == "label" and explode and any("." in part for part in parts):
        raise BadArguments(f"{where}: a point divides the parts of this path, so that none of them can hold one")
    return begin + own + (between if explode else ",").join(parts)


def _of_path(value: str, where: str) -> str:
    """Quote a value that must stay one segment of the path, whoever reads it, however often it is decoded."""
    if not value:
        raise BadArguments(f"{where}: a part of the path cannot be empty")
    if leads_elsewhere(value):
        raise BadArguments(f"{where}: the path segments '.' and '..' lead elsewhere")
    return quoted(value)


def leads_elsewhere(segment: str) -> bool:
    """Return whether a segment of a path is a dot segment, or holds one for a server that decodes it (up to three times) before it divides."""
    for _ in range(4):
        if {".", ".."} & set(re.split(r"[/\\;]", segment)):
            return True
        segment = urllib.parse.unquote(segment)
    return False


# ---------------------------------------------------------------- the query, and forms
def query(parameter: Parameter, value: Any) -> list[tuple[str, str]]:
    """Return the pairs of the query, or of a form, percent-encoded; raises ``BadArguments``."""
    name, where = quoted(parameter.name), parameter.name
    if value is None:
        return []
    if parameter.media:
        return [(name, quoted(json_text(value) if parameter.media == "json" else text(value, where)))]
    if parameter.style == "deepObject":
        return _deep(name, value, where)
    if not isinstance(value, Mapping | list):
        return [(name, quoted(text(value, where), safe=":/?@!$'()*," if parameter.reserved else ""))]
    delimiter = _DELIMITERS[parameter.style]
    if parameter.explode or not value:
        if isinstance(value, Mapping):
            return [(quoted(text(key, where)), _item(parameter, item, "")) for key, item in value.items() if item is not None]
        return [(name, _item(parameter, item, "")) for item in value]
    items = [one for pair in value.items() if pair[1] is not None for one in pair] if isinstance(value, Mapping) else value
    return [(name, delimiter.join(_item(parameter, item, delimiter) for item in items))] if items else []


def _item(parameter: Parameter, value: Any, delimiter: str) -> str:
    written = quoted(text(value, parameter.name), safe=":/?@!$'()*" if parameter.reserved else "")
    if delimiter in ("%20", "%7C") and delimiter in written:  # read after decoding, an encoded one would divide as well
        raise BadArguments(f"{parameter.name}: {urllib.parse.unquote(delimiter)!r} divides the items, so that none of them can hold one")
    return written


def _deep(name: str, value: Any, where: str) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, Mapping | list):
        return [(name, quoted(text(value, where)))]
    pairs = []
    for key, item in value.items() if isinstance(value, Mapping) else ((str(number), item) for number, item in enumerate(value)):
        if not key or {"[", "]"} & set(key):
            raise BadArguments(f"{where}: the name {key!r} cannot stand in brackets")
        pairs += _deep(f"{name}[{quoted(text(key, where))}]", item, where)
    return pairs


# ---------------------------------------------------------------- headers
def header(parameter: Parameter, value: Any) -> str | None:
    """Return the value of the header, None for none; raises ``BadArguments``."""
    where = parameter.name
    if value is None:
        return None
    if parameter.media:  # JSON escapes what a header cannot hold
        return json.dumps(json.loads(json_text(value))) if parameter.media == "json" else _of_header(text(value, where), where)
    if not isinstance(value, Mapping | list):
        return _of_header(text(value, where), where)
    divided = ",=" if isinstance(value, Mapping) and parameter.explode else ","
    items = [one for pair in value.items() if pair[1] is not None for one in pair] if isinstance(value, Mapping) else value
    written = [_of_header(text(item, where), where) for item in items]
    if fault := next((one for one in written if set(divided) & set(one)), None):
        raise BadArguments(f"{where}: a comma divides the parts of this header, so that {fault!r} cannot be one")
    if isinstance(value, Mapping) and parameter.explode:
        written = [f"{key}={item}" for key, item in zip(written[::2], written[1::2], strict=True)]
    return ",".join(written) if written else None


def _of_header(value: str, where: str) -> str:
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        raise BadArguments(f"{where}: a header holds printable ASCII only, without spaces at its ends, got {value[:100]!r}")
    return value
