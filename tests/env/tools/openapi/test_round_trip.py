"""Generated documents: what a server reads out of a request, by the rules of RFC 6570 alone, is what the arguments said."""

from __future__ import annotations

import functools
import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from echoing import Sent, echoing, exploded, listed, read_deep, read_multipart, read_query
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steptool_env import ToolCallSpace, ToolResult
from steptool_env.tools.http import HttpClient
from steptool_env.tools.openapi import OpenApiSource

pytest.importorskip("httpx2")

NAMES = ["id", "user id", "q[]", "größe", "x-y", "$filter", "a&b", "page.no", "50%", "a=b", "tag"]
MANY = settings(max_examples=110)


@pytest.fixture(scope="module")
def call() -> Iterator[Callable[..., ToolResult | Sent]]:
    with echoing() as send:
        yield send


class Part(NamedTuple):
    """A parameter or a property: its schema, a value of it, and what it is read as."""

    schema: dict[str, Any]
    value: Any


@functools.cache
def texts(without: str = "", least: int = 0) -> st.SearchStrategy[str]:
    """Texts of all kinds, without some signs; those that a path can hold if they may not be empty."""
    hostile = st.sampled_from([char for char in "/?#&=+%;:@,.'\"\\ |[]{}~\x00\n\té€😀Aa0" if char not in without])
    anything = st.characters(codec="utf-8", exclude_characters=without)
    drawn = st.text(hostile | anything, min_size=least, max_size=8)
    return drawn.filter(stays) if least else drawn


def stays(text: str) -> bool:
    """Whether a text is one segment of a path for every server, however often it decodes."""
    for _ in range(4):
        if {".", ".."} & set(re.split(r"[/\\;]", text)):
            return False
        text = urllib.parse.unquote(text)
    return True


@functools.cache
def values_of(kind: str, without: str, least: int) -> st.SearchStrategy[Any]:
    if kind == "string":
        return texts(without, least)
    if kind == "boolean":
        return st.booleans()
    whole = st.integers(-99, 99).map(float)  # 7.0 is an integer for JSON Schema
    return st.integers(-(2**60), 2**60) | whole if kind == "integer" else whole if "." in without else st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


KINDS = st.sampled_from(["string", "string", "integer", "number", "boolean"])


@functools.cache
def scalars(without: str = "", least: int = 0) -> st.SearchStrategy[Part]:
    return KINDS.flatmap(lambda kind: values_of(kind, without, least).map(lambda value: Part({"type": kind}, value)))


@functools.cache
def arrays(without: str = "", least: int = 0) -> st.SearchStrategy[Part]:
    def of(kind: str) -> st.SearchStrategy[Part]:
        items = st.lists(values_of(kind, without, least), min_size=1, max_size=4)
        return items.map(lambda found: Part({"type": "array", "items": {"type": kind}}, found))

    return KINDS.flatmap(of)


def objects(names: list[str], without: str = "", least: int = 0) -> st.SearchStrategy[Part]:
    inner = st.dictionaries(st.sampled_from(names), scalars(without, least), min_size=1, max_size=3)
    return inner.map(
        lambda parts: Part(
            {"type": "object", "properties": {name: part.schema for name, part in parts.items()}}, {name: part.value for name, part in parts.items()}
        )
    )


def typed(text: str, schema: dict[str, Any]) -> Any:
    """What a text says, for a server that knows the type."""
    match schema["type"]:
        case "integer":
            return int(text)
        case "number":
            return float(text)
        case "boolean":
            return {"true": True, "false": False}[text]
    return text


def typed_items(items: list[str], schema: dict[str, Any]) -> list[Any]:
    return [typed(item, schema["items"]) for item in items]


def typed_object(found: dict[str, str], schema: dict[str, Any]) -> dict[str, Any]:
    return {name: typed(text, schema["properties"][name]) for name, text in found.items()}


def flat_object(items: list[str], schema: dict[str, Any]) -> dict[str, Any]:
    return typed_object(dict(zip(items[::2], items[1::2], strict=True)), schema)


# ---------------------------------------------------------------- one reader for every place and style
def read_path(text: str, style: str, explode: bool, name: str, schema: dict[str, Any]) -> Any:
    quoted = urllib.parse.quote(name, safe="")
    begin, divider = {"simple": ("", ","), "label": (".", "." if explode else ","), "matrix": (";", ";" if explode else ",")}[style]
    assert text.startswith(begin)
    text = text.removeprefix(begin)
    kind = schema["type"]
    if style == "matrix" and not (explode and kind == "object"):
        parts = text.split(divider) if kind == "array" and explode else [text]
        assert all(part.startswith(f"{quoted}=") for part in parts)
        text = divider.join(part.removeprefix(f"{quoted}=") for part in parts)
    return read_simple(text, divider, explode, schema)


def read_simple(text: str, divider: str, explode: bool, schema: dict[str, Any]) -> Any:
    if schema["type"] == "array":
        return typed_items(listed(text, divider), schema)
    if schema["type"] == "object":
        return typed_object(exploded(text, divider), schema) if explode else flat_object(listed(text, divider), schema)
    return typed(urllib.parse.unquote(text), schema)


def read_in_query(query: str, style: str, explode: bool, name: str, schema: dict[str, Any]) -> Any:
    pairs = read_query(query)
    kind = schema["type"]
    own = [value for key, value in pairs if key == name]
    if kind not in ("array", "object"):
        (text,) = own
        return typed(text, schema)
    if style == "deepObject":
        found = read_deep(pairs, name)
        return typed_object(found, schema) if kind == "object" else typed_items([found[str(number)] for number in range(len(found))], schema)
    if explode:
        return typed_items(own, schema) if kind == "array" else typed_object({key: value for key, value in pairs if key in schema["properties"]}, schema)
    (raw,) = (pair.partition("=")[2] for pair in query.split("&") if urllib.parse.unquote(pair.partition("=")[0]) == name)
    items = listed(raw) if style == "form" else urllib.parse.unquote(raw).split({"spaceDelimited": " ", "pipeDelimited": "|"}[style])
    return typed_items(items, schema) if kind == "array" else flat_object(items, schema)


# ---------------------------------------------------------------- documents
class Drawn(NamedTuple):
    """A parameter with its value, and how a server reads it from what arrived."""

    declared: dict[str, Any]
    value: Any
    read: Callable[[Sent], Any]


@st.composite
def in_paths(draw: st.DrawFn, name: str, segment: int) -> Drawn:
    style, explode = draw(st.sampled_from(["simple", "label", "matrix"])), draw(st.booleans())
    divided = "." if style == "label" and explode else ""
    keys = [f"{name} {number}"[-12:].replace(".", "") for number in range(3)]
    part = draw(scalars(least=1) | arrays(divided, 1) | objects(keys, divided, 1))
    first = part.value[0] if isinstance(part.value, list) else part.value
    assume(style != "label" or not isinstance(first, str) or stays(f".{first}"))  # the point before a slash is a dot segment as well

    def read(sent: Sent) -> Any:
        return read_path(sent.path.split("/")[segment], style, explode, name, part.schema)

    return Drawn({"name": name, "in": "path", "required": True, "style": style, "explode": explode, "schema": part.schema}, part.value, read)


@st.composite
def in_queries(draw: st.DrawFn, name: str) -> Drawn:
    style = draw(st.sampled_from(["form", "spaceDelimited", "pipeDelimited", "deepObject"]))
    explode = draw(st.booleans()) if style == "form" else style == "deepObject"
    without = {"spaceDelimited": " ", "pipeDelimited": "|"}.get(style, "")
    keys = [f"{name}{sign}" for sign in "&ü" + ("" if style == "spaceDelimited" else " ")]
    if style == "deepObject":
        keys = [key.replace("[", "").replace("]", "") for key in keys]
    part = draw(scalars() | arrays(without) | objects([key for key in keys if not set(without) & set(key)] or ["k"], without))
    if draw(st.booleans()):
        declared: dict[str, Any] = {"content": {"application/json": {"schema": part.schema}}}

        def read(sent: Sent) -> Any:
            return json.loads(dict(read_query(sent.query))[name])
    else:
        declared = {"style": style, "explode": explode, "schema": part.schema, "allowReserved": draw(st.booleans())}

        def read(sent: Sent) -> Any:
            return read_in_query(sent.query, style, explode, name, part.schema)

    return Drawn({"name": name, "in": "query", "required": draw(st.booleans()), **declared}, part.value, read)


@st.composite
def in_headers(draw: st.DrawFn, name: str) -> Drawn:
    explode = draw(st.booleans())
    part = draw(scalars(without="") | arrays(",") | objects(["a", "b"], ",="))

    def bare(value: Any) -> Any:
        if isinstance(value, str):
            return "".join(char for char in value if char.isascii() and char.isprintable()).strip().replace("%", "") or "x"
        if isinstance(value, list):
            return [bare(item) for item in value]
        return {key: bare(item) for key, item in value.items()} if isinstance(value, dict) else value

    def read(sent: Sent) -> Any:
        return read_simple(sent.headers[name.lower()], ",", explode, part.schema)

    return Drawn({"name": name, "in": "header", "explode": explode, "schema": part.schema}, bare(part.value), read)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e6, 1e6) | texts(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[dict[str, Any] | None, dict[str, Any], Callable[[Sent], Any]]:
    """A body, its arguments, and how a server reads these."""
    kind = draw(st.sampled_from(["none", "application/json", "application/merge-patch+json", "*/*", "form", "multipart", "text/markdown"]))
    if kind == "none":
        return None, {}, lambda sent: {} if sent.body == "" else sent.body
    if "json" in kind or kind == "*/*":
        values = {f"in body {key}": value for key, value in draw(st.dictionaries(st.sampled_from("abc"), JSON, min_size=1)).items()}
        schema: dict[str, Any] = {"type": "object", "properties": {name: {} for name in values}}

        def read_json(sent: Sent) -> Any:
            assert sent.headers["content-type"] == (kind if kind != "*/*" else "application/json")
            return json.loads(sent.body)

        return {"required": True, "content": {kind: {"schema": schema}}}, values, read_json
    if kind == "text/markdown":
        text = draw(texts())
        return {"required": True, "content": {kind: {"schema": {"type": "string"}}}}, {"body": text}, lambda sent: {"body": sent.body}
    parts = draw(st.dictionaries(st.sampled_from(["note", "größe [cm]", 'a"b', "c&d"]), scalars() | arrays() | objects(["k", "l m"]), min_size=1, max_size=3))
    deep = kind == "form" and draw(st.booleans())
    media = "application/x-www-form-urlencoded" if kind == "form" else "multipart/form-data"
    encoding = {name: {"style": "deepObject", "explode": True} for name in parts} if deep else {}
    schema = {"type": "object", "properties": {name: part.schema for name, part in parts.items()}}

    def read_form(sent: Sent) -> Any:
        if kind == "form":
            assert sent.headers["content-type"] == media
            pairs = read_query(sent.body)
        else:
            pairs = [(urllib.parse.unquote(name), text) for name, _, text in read_multipart(sent)]
        found = {}
        for name, part in parts.items():
            own = [value for key, value in pairs if key == name]
            if deep:
                found[name] = read_in_query(sent.body, "deepObject", True, name, part.schema)
            elif part.schema["type"] == "object":
                found[name] = json.loads(own[0])
            else:
                found[name] = typed_items(own, part.schema) if part.schema["type"] == "array" else typed(own[0], part.schema)
        return found

    values = {name: part.value for name, part in parts.items()}
    if kind == "multipart":  # Python's reader of mails makes one line end of all
        values = json.loads(json.dumps(values).replace("\\r", "").replace("\\n", "").replace("\\u0085", "").replace("\\u2028", "").replace("\\u2029", ""))
        values = {name: clean(value) for name, value in values.items()}
    return {"required": True, "content": {media: {"schema": schema, "encoding": encoding}}}, values, read_form


def clean(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(char for char in value if char.isprintable())
    return [clean(item) for item in value] if isinstance(value, list) else {k: clean(v) for k, v in value.items()} if isinstance(value, dict) else value


@MANY
@given(st.data())
def test_what_is_sent_says_what_the_arguments_say(call: Callable[..., ToolResult | Sent], data: st.DataObject) -> None:
    names = data.draw(st.permutations(NAMES))
    count = data.draw(st.integers(0, 3))
    own = data.draw(st.sampled_from(["", "?fixed=1&also"]))
    template = "".join(f"/part {number}/{{{name}}}" for number, name in enumerate(names[:count])) + "/end" + own
    drawn = [data.draw(in_paths(name, 2 + 2 * (number + 1) - 1)) for number, name in enumerate(names[:count])]
    drawn += [data.draw(in_queries(name)) for name in names[count : count + data.draw(st.integers(0, 3))]]
    drawn += [data.draw(in_headers(name)) for name in ["X-One", "X-Two"][: data.draw(st.integers(0, 2))]]
    body, in_body, read_body = data.draw(bodies())
    method = data.draw(st.sampled_from(["post", "put", "patch", "delete"] + ([] if body else ["get"])))
    operation = {"operationId": "it", "parameters": [one.declared for one in drawn], **({"requestBody": body} if body else {})}
    document = {"openapi": "3.0.3", "paths": {template: {method: operation}}}
    arguments = {one.declared["name"]: one.value for one in drawn} | in_body

    sent = call(document, "it", arguments)

    assert isinstance(sent, Sent), sent
    assert sent.method == method.upper()
    shape = template.partition("?")[0].split("/")[1:]
    segments = sent.path.split("/")
    assert segments[:2] == ["", "base"]
    assert len(segments) == len(shape) + 2
    assert all("{" in wanted or urllib.parse.unquote(found) == wanted for wanted, found in zip(shape, segments[2:], strict=True))
    if own:
        assert read_query(sent.query.replace("also", "also=", 1))[:2] == [("fixed", "1"), ("also", "")]
    for one in drawn:
        if one.declared["in"] == "query" and own:
            sent.query = sent.query.removeprefix("fixed=1&also").removeprefix("&")
            own = ""
        assert one.read(sent) == one.value, (one.declared, sent)
    assert read_body(sent) == in_body, sent


# ---------------------------------------------------------------- samples of the action space
@pytest.fixture(scope="module")
def client() -> Iterator[HttpClient]:
    made = HttpClient(["127.0.0.1"])
    yield made
    made.close()


@settings(max_examples=40)
@given(st.data())
def test_samples_of_generated_documents_are_valid_calls(client: HttpClient, data: st.DataObject) -> None:
    drawn = [data.draw(in_queries(name)) for name in NAMES[:4]] + [data.draw(in_headers("X-One"))]
    body, _, _ = data.draw(bodies())
    operation = {"parameters": [one.declared for one in drawn], **({"requestBody": body} if body else {})}
    document = {"openapi": "3.1.0", "servers": [{"url": "http://127.0.0.1"}], "paths": {"/a": {"post": operation}}}
    (tool,) = OpenApiSource(document, client).tools.values()
    space = ToolCallSpace({tool.name: tool.parameters}, seed=0)
    faults = Counter(tool.check(space.sample()["arguments"]) for _ in range(5))
    assert faults == {"": 5}
