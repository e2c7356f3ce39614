"""Tools from an OpenAPI document, called on a real server in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from echoing import echo
from servers import DOCUMENT, process, serving, shop

from steptool_env import StepToolEnv, ToolCall, Toolkit
from steptool_env.errors import DataError, InvalidArgument, UnknownName
from steptool_env.tasks.jsonl import Jsonl
from steptool_env.tasks.wrapped import WithTools
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.tools.http import HttpClient
from steptool_env.tools.openapi import OpenApiSource, read_document
from steptool_env.tools.recording import Recorder

pytest.importorskip("httpx2")
TASKS = [
    {"id": "one", "instruction": "What is a1?", "answer": "lamp", "calls": [{"name": "getItem", "arguments": {"id": "a1"}}]},
    {"id": "two", "instruction": "Order b2.", "calls": [{"name": "getItem", "arguments": {"id": "b2"}}, {"name": "placeOrder", "arguments": {"item": "b2"}}]},
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(map(json.dumps, TASKS)), encoding="utf-8")
    return path


@pytest.fixture
def local() -> Iterator[OpenApiSource]:
    with serving(shop) as here:
        client = HttpClient([here], backoff=0.0)
        yield OpenApiSource(DOCUMENT, client, server=f"http://{here}")
        client.close()


def test_schemas_are_derived(local: OpenApiSource) -> None:
    assert list(local.tools) == ["getItem", "listItems", "placeOrder"]
    assert list(local.left_out) == ["upload"]
    assert "image/png" in local.left_out["upload"]
    assert local.tools["getItem"].parameters["required"] == ["id"]
    listing = local.tools["listItems"].parameters["properties"]
    assert listing == {"most": {"type": "integer", "minimum": 1}, "tag": {"type": "array", "items": {"type": "string"}}}
    order = local.tools["placeOrder"].parameters
    assert order["required"] == ["item"]
    assert order["properties"]["note"] == {"type": ["string", "null"]}
    assert order["properties"]["parent"] == {"$ref": "#/$defs/Order"}  # it refers to itself
    assert order["$defs"]["Order"]["properties"] == order["properties"]


def test_calls(local: OpenApiSource) -> None:
    toolkit = local.toolkit()
    for name, arguments, error, part in [
        ("getItem", {"id": "a1"}, "", "lamp"),
        ("getItem", {"id": "zz"}, "rejected", "404"),
        ("getItem", {"id": "../orders"}, "bad_arguments", "lead elsewhere"),
        ("getItem", {}, "bad_arguments", "required"),
        ("listItems", {"most": 2, "tag": ["a b", "c&d"]}, "", "most=2&tag=a%20b&tag=c%26d"),
        ("placeOrder", {"item": "a1", "note": None}, "", '"note": null'),
        ("placeOrder", {"item": "zz"}, "rejected", "422"),
    ]:
        result = toolkit.execute(ToolCall(name, arguments))
        assert result.error == error, result
        assert part in result.content


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda request: (401, {}, request.headers["X-Key"]) if request.headers["X-Key"] != "sesame" else (200, {}, "in, with sesame")) as here:
        client = HttpClient([here])
        for key, error, content in [("sesame", "", "in, with ***"), ("wrong", "unavailable", "Error: getItem is unavailable: HTTP status 401: ***")]:
            monkeypatch.setenv("SHOP", key)
            source = OpenApiSource(DOCUMENT, client, server=f"http://{here}", auth={"key": "SHOP"})
            result = source.toolkit().execute(ToolCall("getItem", {"id": "a1"}))
            assert (result.error, result.content) == (error, content)
            assert key not in source.toolkit().schemas
        monkeypatch.delenv("SHOP")
        with pytest.raises(InvalidArgument, match="SHOP"):
            OpenApiSource(DOCUMENT, client, server=f"http://{here}", auth={"key": "SHOP"})
        with pytest.raises(UnknownName, match="key"):
            OpenApiSource(DOCUMENT, client, server=f"http://{here}", auth={"kee": "SHOP"})
        client.close()


def test_all_kinds_of_credentials_are_sent_and_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    schemes = {
        "head": {"type": "apiKey", "in": "header", "name": "X-Key"},
        "ask": {"type": "apiKey", "in": "query", "name": "k&y"},
        "jar": {"type": "apiKey", "in": "cookie", "name": "sid"},
        "basic": {"type": "http", "scheme": "Basic"},
        "token": {"type": "oauth2"},
        "odd": {"type": "mutualTLS"},
    }
    parameters = [{"name": "sid", "in": "cookie", "required": True}, {"name": "q", "in": "query", "schema": {"type": "string"}}]
    document = {"openapi": "3.0.0", "paths": {"/a": {"get": {"operationId": "it", "parameters": parameters}}}, "components": {"securitySchemes": schemes}}
    monkeypatch.setenv("ONE", "user:pass word&")
    with serving(echo) as here:
        client = HttpClient([here])

        def said(arguments: dict[str, str], *names: str) -> str:
            source = OpenApiSource(document, client, server=f"http://{here}", auth=dict.fromkeys(names, "ONE"))
            return source.toolkit().execute(ToolCall("it", arguments)).content

        assert '"/a?q=x&k%26y=' in said({"q": "x"}, "ask")
        assert '"/a?k%26y=' in said({}, "ask")
        assert '"x-key": "***"' in said({}, "head")
        assert '"cookie": "sid=***"' in said({}, "jar")
        assert '"authorization": "Basic ***"' in said({}, "basic")
        assert '"authorization": "Bearer ***"' in said({}, "token")
        with pytest.raises(InvalidArgument, match="mutualTLS"):
            said({}, "odd")
        client.close()


@pytest.mark.parametrize(
    ("status", "forbidden", "error"),
    [
        (400, (), "rejected"),
        (404, (), "rejected"),
        (422, (), "rejected"),
        (401, ["getItem"], "unavailable"),
        (403, (), "unavailable"),
        (403, ["getItem"], "rejected"),
        (403, ["listItems"], "unavailable"),
        (403, lambda name, text: "yours" in text, "rejected"),
        (403, lambda name, text: "key" in text, "unavailable"),
        (415, (), "tool_failed"),
        (429, (), "transient"),
        (500, (), "transient"),
        (501, (), "transient"),
        (503, (), "unavailable"),
        (204, (), ""),
    ],
    ids=lambda value: "function" if callable(value) else str(value),
)
def test_whose_fault_an_answer_is(status: int, forbidden: Any, error: str) -> None:
    with serving(lambda request: (status, {}, "" if status == 204 else "that is not yours")) as here:
        client = HttpClient([here], backoff=0.0, attempts=1)
        source = OpenApiSource(DOCUMENT, client, server=f"http://{here}", forbidden=forbidden)
        result = source.toolkit().execute(ToolCall("getItem", {"id": "a1"}))
        assert result.error == error, result
        assert status == 204 or f"HTTP status {status}: that is not yours" in result.content
        client.close()


def test_documents_that_are_none(tmp_path: Path) -> None:
    client = HttpClient(["127.0.0.1"])
    empty = {"openapi": "3.1.0", "paths": {}}
    for document, fault in [({}, "OpenAPI 3"), (DOCUMENT, "server="), ({"swagger": "2.0"}, "swagger2openapi"), (empty, "no operation")]:
        server = None if document is DOCUMENT else "http://127.0.0.1"
        with pytest.raises(InvalidArgument, match=fault):
            OpenApiSource(document, client, server=server)
    with pytest.raises(UnknownName, match="getItem"):
        OpenApiSource(DOCUMENT, client, server="http://127.0.0.1", operations=["getitem"])
    path = tmp_path / "api.json"
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    assert read_document(path) == DOCUMENT
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError):
        read_document(path)
    with pytest.raises(InvalidArgument, match="not on the list of allowed hosts"):
        OpenApiSource(DOCUMENT, client, server="http://example.com")
    client.close()


def played(env: StepToolEnv, task: int) -> list[Any]:
    env.reset(options={"task": task})
    seen = []
    for call in env.solution():
        observation, reward, terminated, truncated, info = env.step(call)
        seen.append((observation, reward, terminated, truncated, info))
        if terminated or truncated:
            break
    return seen


def test_recorded_and_replayed_bit_for_bit_with_the_server_gone(tasks: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with process("http") as (_, here):
        client = HttpClient([here], backoff=0.0)
        source = OpenApiSource(DOCUMENT, client, server=f"http://{here}", operations=["getItem", "placeOrder"])
        live = WithTools(Jsonl(tasks, source=source.toolkit, split="all"), lambda task, toolkit: Recorder(toolkit, file, task.id))
        first = [played(StepToolEnv(live), task) for task in range(2)]
        client.close()
    assert [episode[-1][4]["success"] for episode in first] == [1.0, 1.0]
    assert [played(StepToolEnv(Jsonl(tasks, tools=file, split="all")), task) for task in range(2)] == first


def test_a_server_killed_in_mid_episode_masks_it_and_the_run_goes_on(tasks: Path) -> None:
    with process("http") as (running, here):
        client = HttpClient([here], backoff=0.0, attempts=2, timeout=2.0)
        source = OpenApiSource(DOCUMENT, client, server=f"http://{here}", operations=["getItem", "placeOrder"])
        env = StepToolEnv(Jsonl(tasks, source=source.toolkit, split="all"))
        env.reset(options={"task": 1})
        *_, info = env.step(env.solution()[0])
        assert info["tool_error"] == ""
        running.kill()
        running.wait()
        _, reward, terminated, truncated, info = env.step(env.solution()[0])
        assert (reward, terminated, truncated, info["masked"]) == (0.0, False, True, True)
        assert played(env, 0)[-1][4]["masked"]  # the next episode starts, and is masked as well
        assert client.failures["given up"] == 2
        client.close()


def test_injected_failures_over_live_tools(tasks: Path, local: OpenApiSource) -> None:
    made: list[FaultyToolkit] = []

    def wrap(task: Any, toolkit: Toolkit) -> FaultyToolkit:
        made.append(FaultyToolkit(toolkit, rate=0.3, error="tool_failed", seed=len(made)))
        return made[-1]

    env = StepToolEnv(WithTools(Jsonl(tasks, source=local.toolkit, split="all"), wrap))
    failures = solved = 0
    for episode in range(30):
        env.reset(options={"task": episode % 2})
        for _ in range(env.task.max_steps):
            *_, terminated, truncated, info = env.step(env.solution()[0])
            failures += info["tool_error"] == "tool_failed"
            if terminated or truncated:
                break
        solved += info["success"] == 1.0
    assert solved == 30  # the oracle tries again
    assert failures == sum(one.injected.total() for one in made) > 5
