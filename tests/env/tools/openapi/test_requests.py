"""Whatever a model writes stays in its place: not the path's template, the host, the scheme, or another parameter changes."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from echoing import Sent, echoing, read_query
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steptool_env import ToolResult

pytest.importorskip("httpx2")

Call = Callable[..., ToolResult | Sent]
TEXT = {"schema": {"type": "string"}}
FREE = {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}


def path(name: str, style: str = "simple", explode: bool = False, schema: Any = None) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "style": style, "explode": explode, "schema": schema or {}}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/users/{id}/notes/{note}.json": {"delete": {"operationId": "note", "parameters": [path("id"), path("note")]}},
        "/pair/{a}{b}/end": {"get": {"operationId": "pair", "parameters": [path("a"), path("b")]}},
        "/label/{id}/end": {"get": {"operationId": "label", "parameters": [path("id", "label", True)]}},
        "/matrix/{id}/end": {"get": {"operationId": "matrix", "parameters": [path("id", "matrix", True)]}},
        "/search/{id}?kind=user&q={q}": {
            "get": {
                "operationId": "search",
                "parameters": [
                    path("id"),
                    path("q"),
                    {"name": "page", "in": "query", **TEXT},
                    {"name": "sort", "in": "query", "allowReserved": True, **TEXT},
                    {"name": "free", "in": "query", "style": "form", "explode": True, **FREE},
                    {"name": "deep", "in": "query", "style": "deepObject", "explode": True, **FREE},
                    {"name": "X-Note", "in": "header", **TEXT},
                ],
            }
        },
    },
}
HOSTILE = [
    "..",
    ".",
    "",
    "../x",
    "..\\x",
    "a/../b",
    "%2e%2e",
    "%2E%2e%2f",
    "%252e%252e",
    "..;x=1",
    "/",
    "//evil.example",
    "http://evil.example/",
    "?admin=1",
    "x?kind=admin",
    "#",
    "x#y",
    "&page=9",
    "a&kind=admin",
    "a;b",
    "@evil.example",
    ":80",
    "\r\nHost: evil.example",
    "\x00",
    "a b",
    "é",
    "😀",
    "\ud800",
    "{id}",
    "%",
    "%00",
    "+",
    "kind",
    "page",
]
VALUES = st.sampled_from(HOSTILE) | st.text(max_size=12) | st.text("./\\%2e?#&=;:@", max_size=10)
ANY = st.recursive(
    VALUES | st.none() | st.integers() | st.floats() | st.booleans(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VALUES, inner, max_size=3)
)
SHAPES = {
    "note": ["base", "users", "", "notes", ".json"],
    "pair": ["base", "pair", "", "end"],
    "label": ["base", "label", "", "end"],
    "matrix": ["base", "matrix", "", "end"],
}
"""The segments of the path; of those that hold a value, what stands behind it."""


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    with echoing() as send:
        yield send


def check_path(name: str, sent: Sent) -> list[str]:
    """The path that arrived is the template's, segment by segment, however often a server decodes it. Returns the values."""
    segments = sent.path.split("/")[1:]
    assert len(segments) == len(SHAPES[name])
    values = []
    for found, said in zip(segments, SHAPES[name], strict=True):
        if said and not said.startswith("."):
            assert found == said
            continue
        assert len(found) > len(said) and found.endswith(said)
        values.append(urllib.parse.unquote(found.removesuffix(said)))
        for _ in range(4):
            assert not {".", ".."} & set(re.split(r"[/\\;]", found)), sent
            found = urllib.parse.unquote(found)
    return values


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_hostile_values_arrive_as_they_are_or_not_at_all(call: Call, value: str) -> None:
    result = call(DOCUMENT, "note", {"id": value, "note": value})
    leads_elsewhere = {".", "..", ""} & {value} or re.search(r"(^|[/\\])\.\.([/\\;]|$)|%2e%2e|%252e|\ud800", value, re.IGNORECASE)
    if leads_elsewhere:
        assert isinstance(result, ToolResult)
        assert result.error == "bad_arguments"
    else:
        assert isinstance(result, Sent)
        assert check_path("note", result) == [value, value]


@settings(max_examples=150)
@given(st.data())
def test_a_path_keeps_its_shape(call: Call, data: st.DataObject) -> None:
    name, arguments = data.draw(
        st.one_of(
            st.tuples(st.just("note"), st.fixed_dictionaries({"id": ANY, "note": ANY})),
            st.tuples(st.just("pair"), st.fixed_dictionaries({"a": ANY, "b": ANY})),
            st.tuples(st.sampled_from(["label", "matrix"]), st.fixed_dictionaries({"id": ANY})),
        )
    )
    sent = call(DOCUMENT, name, arguments)
    if isinstance(sent, ToolResult):
        assert sent.error == "bad_arguments", sent
    else:
        check_path(name, sent)
        assert sent.query == ""
        assert sent.body == ""


@pytest.mark.parametrize(
    "value", [{"\ud800": "a"}, {"a": "\ud800"}, ["\ud800"], "\ud800", float("nan"), float("-inf"), 10**5000], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize(
    ("name", "argument"), [("label", "id"), ("matrix", "id"), ("search", "free"), ("search", "deep"), ("search", "page"), ("search", "X-Note")]
)
def test_what_is_no_json_has_no_form_anywhere(call: Call, name: str, argument: str, value: Any) -> None:
    result = call(DOCUMENT, name, {"id": "a", "q": "b", argument: value} if name == "search" else {argument: value})
    assert isinstance(result, ToolResult)
    assert result.error == "bad_arguments"


@settings(max_examples=100)
@given(
    st.fixed_dictionaries(
        {"id": VALUES, "q": VALUES},
        optional={
            "page": VALUES,
            "sort": VALUES,
            "X-Note": VALUES,
            "free": st.dictionaries(VALUES, VALUES, max_size=3),
            "deep": st.dictionaries(VALUES, VALUES, max_size=3),
        },
    )
)
@example({"id": "a", "q": "x&kind=admin", "page": "1&kind=admin", "sort": "b&page=2#"})
@example({"id": "a", "q": "b", "free": {"kind": "admin"}})
@example({"id": "a", "q": "b", "free": {"page": "9"}})
@example({"id": "a", "q": "b", "deep": {"a][kind": "9"}})
def test_a_query_keeps_its_other_parameters(call: Call, arguments: dict[str, Any]) -> None:
    sent = call(DOCUMENT, "search", arguments)
    if isinstance(sent, ToolResult):
        assert sent.error == "bad_arguments", sent
        return
    assert sent.path.startswith("/base/search/") and sent.path.count("/") == 3
    found = read_query(sent.query)
    names = [name for name, _ in found]
    assert found[0] == ("kind", "user")
    assert all(names.count(name) == (name in ("kind", *arguments)) for name in ("kind", "q", "page", "sort"))
    expected = [("kind", "user"), ("q", arguments["q"])]
    for name, value in arguments.items():
        if name in ("page", "sort"):
            expected.append((name, value))
        elif name == "free":
            expected += value.items()
        elif name == "deep":
            expected += [(f"deep[{key}]", one) for key, one in value.items()]
    assert found == expected
    assert sent.headers.get("x-note") == arguments.get("X-Note")
    assert set(sent.headers) <= {"host", "accept", "accept-encoding", "connection", "user-agent", "x-note"}


@pytest.mark.parametrize("value", ["..", ".", "", "a/..", "%2e%2e/x", "%252e%252e", "..\\", None, [], {}, ["a", ".."], {"a": ".."}, {"..": "a"}, [[1]]])
def test_what_would_leave_its_place_is_refused_in_words(call: Call, value: Any) -> None:
    for name, argument in [("note", "id"), ("label", "id"), ("matrix", "id")]:
        arguments = {argument: value, **({"note": "n"} if name == "note" else {})}
        result = call(DOCUMENT, name, arguments)
        assert isinstance(result, ToolResult)
        assert result.error == "bad_arguments"
        assert result.content.startswith(f"Error: wrong arguments for {name}: id")


def test_values_that_make_a_dot_segment_together_are_refused(call: Call) -> None:
    assert isinstance(call(DOCUMENT, "pair", {"a": "x", "b": "y"}), Sent)
    for name, values in [
        ("pair", {"a": "..", "b": "y"}),
        ("pair", {"a": ".", "b": "."}),
        ("pair", {"a": "x/", "b": "./y"}),
        ("label", {"id": "\\x"}),
        ("label", {"id": "/x"}),
    ]:
        result = call(DOCUMENT, name, values)
        assert isinstance(result, ToolResult)
        assert result.error == "bad_arguments"


def test_an_address_without_end_is_the_models_mistake(call: Call) -> None:
    result = call(DOCUMENT, "note", {"id": "x" * 100_000, "note": "n"})
    assert isinstance(result, ToolResult)
    assert (result.error, "16384 are the most" in result.content) == ("bad_arguments", True)


@pytest.mark.parametrize("value", ["a\r\nHost: x", "é", " a", "a ", "\x7f", "\t"], ids=ascii)
def test_a_header_holds_what_was_written_or_nothing(call: Call, value: str) -> None:
    result = call(DOCUMENT, "search", {"id": "a", "q": "b", "X-Note": value})
    assert isinstance(result, ToolResult)
    assert result.error == "bad_arguments"


def test_headers_of_the_connection_and_credentials_are_no_arguments(call: Call) -> None:
    names = ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Authorization", "authorization", "Cookie", "Accept", "Content-Type", "X-Key", "X-Ok"]
    operation = {"operationId": "it", "parameters": [{"name": name, "in": "header", "required": True, **TEXT} for name in names]}
    operation["parameters"] += [{"name": "key", "in": "query", "required": True, **TEXT}]
    schemes = {"a": {"type": "apiKey", "in": "header", "name": "x-key"}, "b": {"type": "apiKey", "in": "query", "name": "key"}}
    document = {"openapi": "3.0.0", "paths": {"/a": {"get": operation}}, "components": {"securitySchemes": schemes}}
    sent = call(document, "it", {"X-Ok": "yes"})
    assert isinstance(sent, Sent)
    assert sent.headers["x-ok"] == "yes"
    result = call(document, "it", {"X-Ok": "yes", "Host": "evil.example"})
    assert isinstance(result, ToolResult)
    assert result.error == "bad_arguments"
