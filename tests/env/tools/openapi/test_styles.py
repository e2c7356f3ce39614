"""Every style of every place, as docs/tools.md has it in a table, against a server that says what arrived."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from echoing import Sent, echoing
from project import ROOT

from steptool_env import ToolResult
from steptool_env.tools.openapi.styles import STYLES, Parameter, header, in_path, plain, query
from steptool_env.tools.tool import BadArguments

pytest.importorskip("httpx2")

VALUES = ["a b", ["a", "b,c"], {"k": "v", "n": 7.0}]
SCHEMAS = [
    {"type": "string"},
    {"type": "array", "items": {"type": "string"}},
    {"type": "object", "properties": {"k": {"type": "string"}, "n": {"type": "integer"}}},
]


def table(title: str) -> list[list[str]]:
    """The rows of the table of docs/tools.md whose first column has this title."""
    text = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {title} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found is not None
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


STYLED = table("in")


@pytest.fixture(scope="module")
def call() -> Iterator[Callable[..., ToolResult | Sent]]:
    with echoing() as send:
        yield send


@pytest.mark.parametrize("row", STYLED, ids=lambda row: "-".join(row[:3]))
def test_the_table_of_styles(call: Callable[..., ToolResult | Sent], row: list[str]) -> None:
    place, style, explode, *cells = row
    for value, schema, cell in zip(VALUES, SCHEMAS, cells, strict=True):
        declared = {"name": "x", "in": place, "required": True, "style": style, "explode": explode == "true", "schema": schema}
        template = "/at/{x}" if place == "path" else "/at"
        document = {"openapi": "3.0.3", "paths": {template: {"get": {"operationId": "it", "parameters": [declared]}}}}
        sent = call(document, "it", {"x": value})
        if cell == "refused":
            assert isinstance(sent, ToolResult)
            assert sent.error == "bad_arguments"
            continue
        assert isinstance(sent, Sent), sent
        assert {"path": sent.path.removeprefix("/base/at/"), "query": sent.query, "header": sent.headers.get("x")}[place] == cell


def test_the_table_of_styles_is_whole() -> None:
    wanted = {(place, style, explode) for place, styles in STYLES.items() for style in styles for explode in ("false", "true")}
    # In these three a list or an object has one form only.
    wanted -= {("query", "deepObject", "false"), ("query", "spaceDelimited", "true"), ("query", "pipeDelimited", "true")}
    assert {tuple(row[:3]) for row in STYLED} == wanted


@pytest.mark.parametrize("row", table("body"), ids=lambda row: row[0])
def test_the_table_of_bodies(call: Callable[..., ToolResult | Sent], row: list[str]) -> None:
    media, arguments, content_type, body = row
    text = media.startswith("text/")
    schema = {"type": "string"} if text else {"type": "object", "properties": {name: {} for name in json.loads(arguments)}}
    operation = {"operationId": "it", "requestBody": {"required": True, "content": {media: {"schema": schema}}}}
    document = {"openapi": "3.0.3", "paths": {"/at": {"post": operation}}}
    sent = call(document, "it", json.loads(arguments))
    assert isinstance(sent, Sent), sent
    assert sent.headers["content-type"].startswith(content_type)
    if media == "multipart/form-data":
        boundary = sent.headers["content-type"].partition("boundary=")[2]
        assert sent.body.count(boundary) == 5  # four parts: a list has one for each of its items
    else:
        assert sent.body == body


def parameter(place: str, style: str, explode: bool, **more: Any) -> Parameter:
    return Parameter("x", place, style, explode, **more)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7.0, "x=7"),
        (-0.0, "x=0"),
        (1e20, "x=100000000000000000000"),
        (1e21, "x=1e%2B21"),
        (0.5, "x=0.5"),
        (10**40, f"x={10**40}"),
        (True, "x=true"),
        (False, "x=false"),
        ("", "x="),
        ("7.0", "x=7.0"),
        (None, ""),
        ([], ""),
        ({}, ""),
        ([""], "x="),
        ({"a": None}, ""),
        (["a", True, 7.0], "x=a&x=true&x=7"),
        ({"a b": 1, "c": "&"}, "a%20b=1&c=%26"),
    ],
)
def test_values_of_a_form(value: Any, expected: str) -> None:
    assert "&".join(f"{name}={one}" for name, one in query(parameter("query", "form", True), plain(value))) == expected


@pytest.mark.parametrize(
    ("style", "explode", "value"),
    [
        ("form", True, [None]),
        ("form", True, [[1]]),
        ("form", True, {"a": {"b": 1}}),
        ("form", False, [{"a": 1}]),
        ("form", True, "\ud800"),
        ("form", True, {"\ud800": 1}),
        ("form", False, {"\ud800": 1}),
        ("form", True, float("nan")),
        ("form", True, float("inf")),
        ("spaceDelimited", False, ["a b"]),
        ("pipeDelimited", False, ["a|b"]),
        ("pipeDelimited", False, {"a|b": 1}),
        ("deepObject", True, {"a]": 1}),
        ("deepObject", True, {"": 1}),
        ("deepObject", True, {"a": ["\ud800"]}),
    ],
)
def test_values_without_a_form_are_refused(style: str, explode: bool, value: Any) -> None:
    with pytest.raises(BadArguments, match=r"^x: "):
        query(parameter("query", style, explode), value)


def test_a_number_with_thousands_of_digits_is_refused() -> None:
    with pytest.raises(BadArguments, match="digits"):
        query(parameter("query", "form", True), 10**5000)


def test_deep_objects_are_as_deep_as_their_values() -> None:
    value = {"a": {"b": [1.0, {"c": "x&y"}]}, "d": None, "e": []}
    found = query(parameter("query", "deepObject", True), plain(value))
    assert found == [("x[a][b][0]", "1"), ("x[a][b][1][c]", "x%26y")]


def test_reserved_signs_stay_where_they_have_no_meaning() -> None:
    value = "a/b?c:d@e!$'()*,&=#+[]%;"
    assert query(parameter("query", "form", True, reserved=True), value) == [("x", "a/b?c:d@e!$'()*,%26%3D%23%2B%5B%5D%25%3B")]
    assert query(parameter("query", "form", False, reserved=True), ["a,b", "c/d"]) == [("x", "a%2Cb,c/d")]


def test_parameters_with_a_media_type() -> None:
    value = {"k": [1.0, "é/&"]}
    assert query(parameter("query", "", False, media="json"), plain(value)) == [("x", "%7B%22k%22%3A%20%5B1%2C%20%22%C3%A9%2F%26%22%5D%7D")]
    assert in_path(parameter("path", "", False, media="json"), plain({"k": "é"})) == "%7B%22k%22%3A%20%22%C3%A9%22%7D"
    assert header(parameter("header", "", False, media="json"), plain(value)) == '{"k": [1, "\\u00e9/&"]}'
    for broken in (float("nan"), "\ud800"):
        with pytest.raises(BadArguments):
            header(parameter("header", "", False, media="json"), broken)


@pytest.mark.parametrize(
    ("explode", "value"), [(False, ["a,b"]), (True, {"a=b": 1}), (True, {"a": "1,2"}), (False, ["a", " b"]), (False, "\n"), (False, [None])]
)
def test_headers_that_could_be_read_in_two_ways_are_refused(explode: bool, value: Any) -> None:
    with pytest.raises(BadArguments):
        header(parameter("header", "simple", explode), value)
    assert header(parameter("header", "simple", explode), []) is None
    assert header(parameter("header", "simple", explode), None) is None


def test_a_point_in_a_part_that_points_divide_is_refused() -> None:
    assert in_path(parameter("path", "label", True), ["a", "b"]) == ".a.b"
    assert in_path(parameter("path", "label", False), ["1.5", "b"]) == ".1.5,b"
    with pytest.raises(BadArguments, match="point"):
        in_path(parameter("path", "label", True), ["1.5", "b"])
