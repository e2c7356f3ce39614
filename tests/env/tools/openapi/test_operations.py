"""Documents of many families: what each offers, what it leaves out and why, and what is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from echoing import Sent, echoing, read_multipart

from steptool_env import ToolResult
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tools.http import HttpClient
from steptool_env.tools.openapi import OpenApiSource

pytest.importorskip("httpx2")

STRING: dict[str, Any] = {"type": "string"}


def document(version: str = "3.0.3", *, path: str = "/a", method: str = "post", more: dict[str, Any] | None = None, **operation: Any) -> dict[str, Any]:
    return {"openapi": version, "servers": [{"url": "http://127.0.0.1/base"}], "paths": {path: {method: {"operationId": "it", **operation}}}, **(more or {})}


def body(media: str, schema: Any = None, required: bool = True, **more: Any) -> dict[str, Any]:
    return {"required": required, "content": {media: {**({} if schema is None else {"schema": schema}), **more}}}


def holding(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def parameter(name: str, place: str = "query", **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, **({} if "content" in more else {"schema": STRING}), **({"required": True} if place == "path" else {}), **more}


class Family(NamedTuple):
    document: dict[str, Any]
    offered: list[str]
    """The arguments, the required ones with a mark."""
    arguments: dict[str, Any]
    line: str
    """Method, path and query that arrive."""
    body: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012


OFFERED = {
    "path and query": Family(
        document(path="/u/{id}", method="get", parameters=[parameter("id", "path"), parameter("q")]), ["id!", "q"], {"id": "7"}, "GET /u/7"
    ),
    "integers written as floats": Family(
        document(path="/u/{id}", method="get", parameters=[parameter("id", "path", schema={"type": "integer"})]), ["id!"], {"id": 7.0}, "GET /u/7"
    ),
    "json body": Family(
        document(requestBody=body("application/json", holding(["n"], n={"type": "integer"}, t=STRING))), ["n!", "t"], {"n": 7.0}, "POST /a", '{"n": 7}'
    ),
    "json with a charset": Family(
        document(requestBody=body("application/json; charset=utf-8", holding(t=STRING))),
        ["t"],
        {"t": "é"},
        "POST /a",
        '{"t": "é"}',
        {"content-type": "application/json; charset=utf-8"},
    ),
    "a required body without arguments": Family(document(requestBody=body("application/json", holding(t=STRING))), ["t"], {}, "POST /a", "{}"),
    "an optional body without arguments": Family(document(requestBody=body("application/json", holding(t=STRING), False)), ["t"], {}, "POST /a"),
    "an optional body with a required part": Family(
        document(requestBody=body("application/json", holding(["t"], t=STRING), False)), ["body"], {"body": {"t": "x"}}, "POST /a", '{"t": "x"}'
    ),
    "a body of null": Family(
        document(requestBody=body("application/json", {"nullable": True, "type": "object"})), ["body!"], {"body": None}, "POST /a", "null"
    ),
    "a list as body": Family(
        document(requestBody=body("application/json", {"type": "array", "items": STRING})), ["body!"], {"body": ["x"]}, "POST /a", '["x"]'
    ),
    "a body without a schema": Family(document(requestBody=body("application/json")), ["body!"], {"body": 1}, "POST /a", "1"),
    "a body of all of several": Family(
        document(requestBody=body("application/json", {"allOf": [holding(a=STRING), holding(b=STRING)]})),
        ["body!"],
        {"body": {"a": "x"}},
        "POST /a",
        '{"a": "x"}',
    ),
    "a body with free properties": Family(
        document(requestBody=body("application/json", {**holding(a=STRING), "additionalProperties": True})),
        ["body!"],
        {"body": {"z": 1}},
        "POST /a",
        '{"z": 1}',
    ),
    "a body that collides with a parameter": Family(
        document(parameters=[parameter("a")], requestBody=body("application/json", holding(a=STRING))),
        ["a", "body!"],
        {"a": "q", "body": {"a": "b"}},
        "POST /a?a=q",
        '{"a": "b"}',
    ),
    "a parameter that is called body": Family(
        document(parameters=[parameter("body")], requestBody=body("application/json", STRING)),
        ["body", "request_body!"],
        {"body": "q", "request_body": "b"},
        "POST /a?body=q",
        '"b"',
    ),
    "anything as body": Family(
        document(requestBody=body("*/*", holding(a=STRING))), ["a"], {"a": "x"}, "POST /a", '{"a": "x"}', {"content-type": "application/json"}
    ),
    "a text as any body": Family(
        document(requestBody=body("*/*", STRING)), ["body!"], {"body": "x"}, "POST /a", "x", {"content-type": "text/plain; charset=utf-8"}
    ),
    "a text": Family(document(requestBody=body("text/x-markdown", STRING)), ["body!"], {"body": "# é"}, "POST /a", "# é", {"content-type": "text/x-markdown"}),
    "merge-patch": Family(
        document(method="patch", requestBody=body("application/merge-patch+json", holding(a={**STRING, "nullable": True}))),
        ["a"],
        {"a": None},
        "PATCH /a",
        '{"a": null}',
        {"content-type": "application/merge-patch+json"},
    ),
    "json before a form": Family(
        document(
            requestBody={
                "content": {"multipart/form-data": {"schema": holding(f={**STRING, "format": "binary"})}, "application/json": {"schema": holding(a=STRING)}}
            }
        ),
        ["a"],
        {"a": "x"},
        "POST /a",
        '{"a": "x"}',
    ),
    "a form": Family(
        document(
            requestBody=body(
                "application/x-www-form-urlencoded", holding(["a"], a=STRING, b={"type": "array", "items": {"type": "integer"}}, c=holding(d=STRING))
            )
        ),
        ["a!", "b", "c"],
        {"a": "x&y", "b": [1, 2.0], "c": {"d": "é"}},
        "POST /a",
        "a=x%26y&b=1&b=2&c=%7B%22d%22%3A%20%22%C3%A9%22%7D",
    ),
    "a form of deep objects": Family(
        document(
            requestBody=body(
                "application/x-www-form-urlencoded",
                holding(items={"type": "array", "items": holding(price=STRING)}),
                encoding={"items": {"style": "deepObject", "explode": True}},
            )
        ),
        ["items"],
        {"items": [{"price": "p 1"}]},
        "POST /a",
        "items[0][price]=p%201",
    ),
    "a form of lists with commas": Family(
        document(requestBody=body("application/x-www-form-urlencoded", holding(a={"type": "array", "items": STRING}), encoding={"a": {"explode": False}})),
        ["a"],
        {"a": ["x", "y,z"]},
        "POST /a",
        "a=x,y%2Cz",
    ),
    "a body with delete": Family(
        document(method="delete", requestBody=body("application/json", holding(a=STRING))), ["a"], {"a": "x"}, "DELETE /a", '{"a": "x"}'
    ),
    "a query within the path": Family(
        document(path="/a?kind=user&v", method="get", parameters=[parameter("kind"), parameter("q")]), ["q"], {"q": "x"}, "GET /a?kind=user&v&q=x"
    ),
    "a parameter within the path's query": Family(
        document(path="/a?q={q}", method="get", parameters=[parameter("q", "path")]), ["q!"], {"q": "x&y"}, "GET /a?q=x%26y"
    ),
    "a fragment": Family(document(path="/a#x", method="get"), [], {}, "GET /a"),
    "a path with spaces": Family(document(path="/a b/é", method="get"), [], {}, "GET /a%20b/%C3%A9"),
    "deep objects": Family(
        document(method="get", parameters=[parameter("f", style="deepObject", explode=True, schema=holding(a=holding(b=STRING)))]),
        ["f"],
        {"f": {"a": {"b": "x"}}},
        "GET /a?f[a][b]=x",
    ),
    "a parameter in json": Family(
        document(method="get", parameters=[parameter("f", content={"application/json": {"schema": holding(a=STRING)}})]),
        ["f"],
        {"f": {"a": "x"}},
        "GET /a?f=%7B%22a%22%3A%20%22x%22%7D",
    ),
    "an optional cookie": Family(document(method="get", parameters=[parameter("c", "cookie"), parameter("q")]), ["q"], {}, "GET /a"),
    "three parameters of one name": Family(
        document(path="/{id}", method="get", parameters=[parameter("id", "query"), parameter("id", "header"), parameter("id", "path"), parameter("id_query")]),
        ["id_query", "id_header", "id!", "id_query_2"],
        {"id": "p", "id_query": "q", "id_header": "h", "id_query_2": "x"},
        "GET /p?id=q&id_query=x",
        "",
        {"id": "h"},
    ),
    "an operation's parameter goes before its path's": Family(
        {
            "openapi": "3.0.0",
            "paths": {
                "/a": {"parameters": [parameter("q", schema={"type": "integer"}), parameter("r")], "get": {"operationId": "it", "parameters": [parameter("q")]}}
            },
        },
        ["q", "r"],
        {"q": "x"},
        "GET /a?q=x",
    ),
    "references everywhere": Family(
        document(
            parameters=[{"$ref": "#/components/parameters/Q"}],
            requestBody={"$ref": "#/components/requestBodies/B"},
            more={
                "components": {
                    "parameters": {"Q": {"$ref": "#/components/parameters/R"}, "R": parameter("q", schema={"$ref": "#/components/schemas/S"})},
                    "requestBodies": {"B": body("application/json", {"$ref": "#/components/schemas/T~1U%20V"})},
                    "schemas": {"S": STRING, "T/U V": holding(["a"], a={"$ref": "#/components/schemas/S"})},
                }
            },
        ),
        ["q", "a!"],
        {"q": "x", "a": "y"},
        "POST /a?q=x",
        '{"a": "y"}',
    ),
    "a path item by reference": Family(
        {"openapi": "3.1.0", "paths": {"/a": {"$ref": "#/components/pathItems/A"}}, "components": {"pathItems": {"A": {"get": {"operationId": "it"}}}}},
        [],
        {},
        "GET /a",
    ),
    "OpenAPI 3.2": Family(document("3.2.0", method="get", parameters=[parameter("q")]), ["q"], {"q": "x"}, "GET /a?q=x"),
}


@pytest.fixture(scope="module")
def call() -> Iterator[Callable[..., ToolResult | Sent]]:
    with echoing() as send:
        yield send


@pytest.fixture(scope="module")
def client() -> Iterator[HttpClient]:
    made = HttpClient(["127.0.0.1"])
    yield made
    made.close()


@pytest.mark.parametrize("family", OFFERED.values(), ids=OFFERED)
def test_what_is_offered_is_sent_right(call: Callable[..., ToolResult | Sent], client: HttpClient, family: Family) -> None:
    (tool,) = OpenApiSource(family.document, client, server="http://127.0.0.1").tools.values()
    required = tool.parameters["required"]
    assert [f"{name}!" if name in required else name for name in tool.parameters["properties"]] == family.offered
    sent = call(family.document, "it", family.arguments)
    assert isinstance(sent, Sent), sent
    assert f"{sent.method} {sent.target}".replace("/base", "", 1) == family.line
    assert sent.body == family.body
    assert family.headers.items() <= sent.headers.items()
    assert ("content-type" in sent.headers) == bool(sent.body)


def test_a_multipart_form_has_text_and_json_parts(call: Callable[..., ToolResult | Sent]) -> None:
    schema = holding(note=STRING, count={"type": "integer"}, tags={"type": "array", "items": STRING}, about=holding(a=STRING), md=STRING)
    made = document(requestBody=body("multipart/form-data", schema, encoding={"md": {"contentType": "text/markdown"}}))
    sent = call(made, "it", {"note": 'x\r\n--"', "count": 7.0, "tags": ["a", "b"], "about": {"a": "é"}, "md": "# x"})
    assert isinstance(sent, Sent)
    assert read_multipart(sent) == [
        ("note", "", 'x\r\n--"'),
        ("count", "", "7"),
        ("tags", "", "a"),
        ("tags", "", "b"),
        ("about", "application/json", '{"a": "é"}'),
        ("md", "text/markdown", "# x"),
    ]
    empty = call(made, "it", {})
    assert isinstance(empty, Sent)
    assert read_multipart(empty) == []


LEFT_OUT = {
    "a picture": (document(requestBody=body("image/png")), "image/png, which is not sent"),
    "xml": (document(requestBody=body("application/xml", holding(a=STRING))), "application/xml, which is not sent"),
    "an optional picture": (document(requestBody=body("image/png", required=False)), "image/png"),
    "a body without content": (document(requestBody={"required": True}), "no content"),
    "a file in a form": (document(requestBody=body("multipart/form-data", holding(f={**STRING, "format": "binary"}))), "'f' is a file"),
    "files in a form": (
        document(requestBody=body("multipart/form-data", holding(f={"type": "array", "items": {**STRING, "format": "binary"}}))),
        "'f' is a file",
    ),
    "a file of OpenAPI 3.1": (
        document("3.1.0", requestBody=body("multipart/form-data", holding(f={**STRING, "contentMediaType": "image/png"}))),
        "'f' is a file",
    ),
    "a picture in a form": (
        document(requestBody=body("multipart/form-data", holding(f=STRING), encoding={"f": {"contentType": "image/png, image/jpeg"}})),
        "'f' is image/png",
    ),
    "a required cookie": (document(parameters=[parameter("c", "cookie", required=True)]), "the cookie 'c'"),
    "an unknown style": (document(parameters=[parameter("q", style="label")]), "'label'; known there: form"),
    "an unknown place": (document(parameters=[parameter("q", "formData")]), "'formData', which is not known"),
    "a list of objects in a query": (
        document(parameters=[parameter("q", schema={"type": "array", "items": holding(a=STRING)})]),
        "holds objects within an array",
    ),
    "an object of lists in a query": (document(parameters=[parameter("q", schema=holding(a={"type": "array"}))]), "holds arrays within an object"),
    "a parameter in xml": (document(parameters=[parameter("q", content={"application/xml": {}})]), "application/xml"),
    "a path without its parameter": (document(path="/{id}"), "{id}, which is no parameter"),
    "a parameter without its path": (document(parameters=[parameter("id", "path")]), "'id' does not stand in its path"),
    "a reference to nothing": (document(parameters=[{"$ref": "#/components/parameters/Q"}]), "leads nowhere"),
    "a reference in a circle": (
        document(parameters=[{"$ref": "#/components/parameters/Q"}], more={"components": {"parameters": {"Q": {"$ref": "#/components/parameters/Q"}}}}),
        "circle",
    ),
    "a reference to the network": (document(parameters=[{"$ref": "https://example.com/q.json"}]), "only files beside the document"),
    "a reference to a file": (document(parameters=[{"$ref": "q.json#/Q"}]), "give the path of the document"),
    "a schema that is none": (document(parameters=[parameter("q", schema={"type": "date"})]), "valid JSON schema"),
    "a schema that is a text": (document(parameters=[parameter("q", schema="string")]), "a schema must be an object"),
    "a server with a variable without a default": (document(servers=[{"url": "https://{tenant}.example.com"}]), "no default for {tenant}"),
    "a server that is not listed": (document(servers=[{"url": "https://example.com"}]), "not on the list of allowed hosts"),
    "head": (document(method="head"), "HEAD is not offered"),
    "an operation that is a list": ({**document(), "paths": {"/a": {"get": []}}}, "must be an object"),
    "parameters that are a text": (document(parameters="q"), "must be a list"),
    "a path that is a text": ({**document(), "paths": {"/a": "get"}}, "must be an object"),
    "a path without a slash": (document(path="a"), "begin with a slash"),
    "a webhook": ({**document(), "paths": {}, "webhooks": {"new": {"post": {}}}}, "the server calls it"),
}


@pytest.mark.parametrize(("made", "reason"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_cannot_be_offered_whole_is_left_out_with_its_reason(client: HttpClient, made: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(reason)):
        OpenApiSource(made, client)
    beside = {**made, "paths": {**made["paths"], "/fine": {"get": {"operationId": "fine"}}}}
    source = OpenApiSource(beside, client)  # it keeps no other one from being offered
    assert list(source.tools) == ["fine"]
    ((_, said),) = source.left_out.items()
    assert reason in said
    with_it = OpenApiSource(beside, client, operations=["fine"])  # what is not asked for is not looked at
    assert (list(with_it.tools), with_it.left_out) == (["fine"], {})


def test_operations_choose_by_name_and_by_id(client: HttpClient) -> None:
    paths = {"/a": {"get": {"operationId": "things/list"}, "post": {"operationId": "things/make", "requestBody": body("image/png")}}}
    made = {**document(), "paths": paths}
    for name in ("things_list", "things/list"):
        assert list(OpenApiSource(made, client, operations=[name]).tools) == ["things_list"]
    with pytest.raises(InvalidArgument, match=r"things_make: .*image/png"):
        OpenApiSource(made, client, operations=["things_list", "things_make"])
    with pytest.raises(UnknownName, match="things_list"):
        OpenApiSource(made, client, operations=["things_lst"])


def test_names_are_legal_and_none_takes_anothers_place(client: HttpClient) -> None:
    ids = ["list", "list", "list_2", "a b/c.d", "größe", "获取", None, "x" * 80, "x" * 80, "finish", "list", "---", "", 7]
    paths = {f"/p{number}": {"get": {**({} if name is None else {"operationId": name})}} for number, name in enumerate(ids)}
    tools = OpenApiSource({**document(), "paths": paths}, client).tools
    assert list(tools) == [
        "list",
        "list_3",
        "list_2",
        "a_b_c_d",
        "groe",
        "get_p5",
        "get_p6",
        "x" * 64,
        "x" * 62 + "_2",
        "finish_2",
        "list_4",
        "---",
        "get_p12",
        "7",
    ]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in tools)
    assert [tool.function.operation.template.path for tool in tools.values()] == [(path,) for path in paths]


def test_servers_of_operations_paths_and_variables(client: HttpClient) -> None:
    get: dict[str, Any] = {"get": {}}
    made = {
        "openapi": "3.0.0",
        "servers": [
            {
                "url": "http://{host}:{port}/v{version}/",
                "variables": {name: {"default": value} for name, value in [("host", "127.0.0.1"), ("port", "80"), ("version", 2)]},
            }
        ],
        "paths": {
            "/a": get,
            "/b": {"servers": [{"url": "http://127.0.0.1/path"}], **get},
            "/c": {"servers": [{"url": "http://127.0.0.1/path"}], "get": {"servers": [{"url": "/own"}]}},
            "/d": {"get": {"servers": []}},
        },
    }

    def addresses(**options: Any) -> dict[str, str]:
        return {name: tool.function.operation.request({})[0] for name, tool in OpenApiSource(made, client, **options).tools.items()}

    own = {"get_b": "http://127.0.0.1/path/b"}
    first = "http://127.0.0.1:80"
    assert addresses() == {"get_a": f"{first}/v2/a", **own, "get_c": f"{first}/own/c", "get_d": f"{first}/v2/d"}
    other = "http://127.0.0.1/test"
    assert addresses(server=f"{other}/") == {"get_a": f"{other}/a", **own, "get_c": "http://127.0.0.1/own/c", "get_d": f"{other}/d"}
    with pytest.raises(InvalidArgument, match="http"):
        OpenApiSource(made, client, server="127.0.0.1")


def test_the_descriptions_are_those_of_the_document(client: HttpClient) -> None:
    made = document(summary="Short.", description="Long.", parameters=[parameter("q", description="What to find.")])
    (tool,) = OpenApiSource(made, client).tools.values()
    assert tool.description == "Short. Long."
    assert json.loads(tool.schema_json)["function"]["parameters"]["properties"]["q"] == {"type": "string", "description": "What to find."}
