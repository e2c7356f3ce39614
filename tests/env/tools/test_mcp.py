"""Tools of MCP servers in processes of their own, over stdio and HTTP."""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="mcp is not installed: pip install 'steptool-env[mcp]'")
import mcp_keeper
import mcp_raw
from mcp.types import CallToolResult, TextContent
from servers import process

from steptool_env import StepToolEnv, ToolCall, Toolkit
from steptool_env.errors import InvalidArgument, Unavailable, UnknownName
from steptool_env.tasks.jsonl import Jsonl
from steptool_env.tasks.wrapped import WithTools
from steptool_env.tools.mcp import McpSource
from steptool_env.tools.mcp_content import content_text
from steptool_env.tools.recording import Recorder

STDIO = [sys.executable, mcp_keeper.__file__, "stdio"]
TASK = {"id": "t", "instruction": "What is 1 + 2?", "answer": "3", "calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}]}
WORD = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
NOTHING = {"type": "object"}
KEEPING = {
    "tools": [{"name": "remember", "inputSchema": WORD}, *({"name": name, "inputSchema": NOTHING} for name in ("recall", "clear", "die", "fail"))],
    "calls": {name: name for name in ("remember", "recall", "clear", "die", "fail")},
}

Raw = Callable[..., McpSource]


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[Raw]:
    """Makes a source whose server plays a script."""
    made: list[McpSource] = []

    def make(script: dict[str, Any], **options: Any) -> McpSource:
        file = tmp_path / f"script{len(made)}.json"
        file.write_text(json.dumps(script), encoding="utf-8")
        made.append(McpSource([sys.executable, mcp_raw.__file__, str(file)], **options))
        return made[-1]

    yield make
    for source in made:
        source.close()


def ask(toolkit: Toolkit, name: str, /, **arguments: Any) -> tuple[str, str]:
    """Return what a call answers: its content and its kind of error."""
    result = toolkit.execute(ToolCall(name, arguments))
    return result.content, result.error


def pid(toolkit: Toolkit) -> int:
    return int(ask(toolkit, "recall")[0].rpartition("pid=")[2])


def gone(process_id: int) -> bool:
    """Wait until there is no such process any more."""
    for _ in range(3000):
        try:
            os.kill(process_id, 0)
            if Path(f"/proc/{process_id}/stat").exists() and Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


# ---------------------------------------------------------------- a server made with the SDK
def test_what_tools_return_and_what_the_server_offers(caplog: pytest.LogCaptureFixture) -> None:
    source = McpSource(STDIO)
    try:
        toolkit = source.toolkit()
        assert source.renamed == {"finish": "finish_on_server"} and "'finish_on_server'" in caplog.text
        assert ask(toolkit, "finish_on_server", answer="x") == ("finished x", "")
        assert ask(toolkit, "finish", answer="x")[0] == "The episode has ended."
        assert ask(toolkit, "contents")[0].splitlines() == [
            "first",
            "[resource file:///notes.txt]",
            "the text of it",
            "[resource file:///x.bin: application/x, 4 bytes]",
            "[link https://example.com/doc: doc, A document., text/html]",
            "[image: image/png, 4 bytes]",
            "[audio: audio/wav, 3 bytes]",
            '{"more": [1, 2]}',
        ]
        assert ask(toolkit, "add", a=1, b=2) == ("3", "")  # its structured content says the same
        assert ask(toolkit, "several") == ("a\nb", "")
        assert ask(toolkit, "add", a="x")[1] == "bad_arguments"
        assert ask(toolkit, "clear", less=-1)[1] == "rejected"
        # The list of tools is that of the beginning of the episode.
        assert ask(toolkit, "grow", name="new_one") == ("grown", "")
        assert "new_one" not in toolkit
        later = source.toolkit()
        assert ask(later, "new_one") == ("I am new_one", "")
        assert ask(later, "shrink", name="new_one") == ("shrunk", "")
        assert "new_one" not in source.toolkit()
        assert ask(later, "new_one")[1] in ("bad_arguments", "rejected")
    finally:
        source.close()


def test_an_episode_over_stdio_recorded_and_replayed_with_the_server_gone(raw: Raw, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps(TASK), encoding="utf-8")
    source = raw({"tools": [{"name": "add", "inputSchema": NOTHING}], "calls": {"add": _result(content=[{"type": "text", "text": "3"}])}})
    file = tmp_path / "calls.jsonl"
    transcripts = []
    live = WithTools(Jsonl(tasks, source=source.toolkit, split="all"), lambda task, toolkit: Recorder(toolkit, file, task.id))
    for suite in (live, None):
        env = StepToolEnv(suite or Jsonl(tasks, tools=file, split="all"))
        env.reset(seed=0)
        transcripts.append([env.step(call) for call in env.solution()])
        source.close()
    assert transcripts[0] == transcripts[1]
    assert transcripts[0][-1][4]["success"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["http", "sse"])
def test_a_server_with_an_address_is_killed_and_started_again(transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps(TASK), encoding="utf-8")
    monkeypatch.setenv("MY_TOKEN", "open-sesame")
    monkeypatch.setenv("OTHER_TOKEN", "open-barley")
    with process(transport, mcp_keeper.__file__, TOKEN="open-sesame") as (running, here):
        url = f"http://{here}/{'mcp' if transport == 'http' else 'sse'}"
        options: dict[str, Any] = {"hosts": [here], "transport": transport, "timeout": 60.0}
        with pytest.raises(Unavailable, match="401"):
            McpSource(url, **options, token="OTHER_TOKEN")
        with pytest.raises(Unavailable, match="401"):
            McpSource(url, **options)
        if transport == "sse":
            with pytest.raises(Unavailable, match="transport='sse'"):
                McpSource(url, hosts=[here], token="MY_TOKEN")
        source = McpSource(url, **options, token="MY_TOKEN") if transport == "http" else McpSource(url, **options, headers={"Authorization": "BEARER"})
        toolkit = source.toolkit()
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda n: ask(toolkit, "add", a=n, b=1), range(16)))
        assert results == [(str(n + 1), "") for n in range(16)]
        assert ask(toolkit, "token") == ("the token is ***", "")
        assert "open-sesame" not in toolkit.schemas and "it is ***" in toolkit.schemas
        env = StepToolEnv(Jsonl(tasks, source=source.toolkit, split="all"))
        env.reset(seed=0)
        running.kill()
        running.wait()
        _, reward, terminated, truncated, info = env.step(env.solution()[0])
        assert (reward, terminated, truncated, info["masked"]) == (0.0, False, True, True)
        env.reset(seed=0)  # the tools are still known, their calls are masked
        assert env.step(env.solution()[0])[4]["masked"]
    with process(transport, mcp_keeper.__file__, TOKEN="open-sesame", PORT=here.rpartition(":")[2]):
        env.reset(seed=0)
        for call in env.solution():
            *_, info = env.step(call)
        assert info["success"] == 1.0
        assert ask(toolkit, "add", a=1, b=1)[1] == "unavailable"  # of the episode that lost its session
        source.close()


@pytest.fixture(autouse=True)
def bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARER", "Bearer open-sesame")


# ---------------------------------------------------------------- one episode after the other
def test_without_more_said_episodes_share_the_server(raw: Raw) -> None:
    source = raw(KEEPING)
    assert ask(source.toolkit(), "remember", word="a") == ("kept", "")
    assert ask(source.toolkit(), "recall")[0].startswith("a pid=")


@pytest.mark.parametrize("options", [{"reset": "clear"}, {"reset": ToolCall("clear", {})}, {"restart": True}], ids=["reset", "call", "restart"])
def test_the_second_episode_is_untouched_by_the_first(raw: Raw, options: dict[str, Any]) -> None:
    source = raw(KEEPING, **options)
    list(source.toolkit())  # as a suite does that wants their names; the session was not used and is free again
    assert len(source._free) == 1
    first = source.toolkit()
    assert ("clear" in first) == ("restart" in options)
    assert ask(first, "remember", word="a")[0] == "kept"
    beside = source.toolkit()  # one that runs at the same time
    assert ask(beside, "remember", word="b")[0] == "kept"
    assert ask(first, "recall")[0].startswith("a pid=") and ask(beside, "recall")[0].startswith("b pid=")
    numbers = {pid(first), pid(beside)}
    assert len(numbers) == 2
    del first, beside
    for _ in range(3):
        later = source.toolkit()
        assert ask(later, "recall")[0].startswith("pid=")
        assert ask(later, "remember", word="c")[0] == "kept"
        assert (pid(later) in numbers) == ("reset" in options)  # a session that is free is used again, one that was used is not
        del later
    if "restart" in options:
        assert all(map(gone, numbers))


def test_a_reset_that_fails_masks_the_episode(raw: Raw) -> None:
    source = raw(KEEPING, reset="fail")
    content, error = ask(source.toolkit(), "recall")
    assert error == "unavailable" and "'fail', which is to reset the server, failed: cannot" in content


def test_a_tool_that_resets_may_be_offered_too(raw: Raw) -> None:
    assert list(raw(KEEPING, reset="clear", tools=["recall", "clear"]).toolkit()) == ["recall", "clear", "finish"]


@pytest.mark.parametrize("options", [{}, {"reset": "clear"}, {"restart": True}], ids=["shared", "reset", "restart"])
def test_a_server_that_dies_is_started_again_for_the_next_episode(raw: Raw, options: dict[str, Any]) -> None:
    source = raw(KEEPING, **options)
    toolkit = source.toolkit()
    number = pid(toolkit)
    content, error = ask(toolkit, "die")
    assert error == "unavailable" and "last words" in content
    assert ask(toolkit, "recall")[1] == "unavailable"  # what it knew is lost, the episode cannot go on
    later = source.toolkit()
    assert pid(later) != number and gone(number)
    os.kill(pid(later), 9)
    assert ask(later, "recall")[1] == "unavailable"
    for _ in range(2):
        assert ask(source.toolkit(), "recall")[1] == ""


def test_a_call_that_was_given_up_does_not_reach_into_the_next_episode(raw: Raw) -> None:
    source = raw({"tools": [*KEEPING["tools"], {"name": "wait", "inputSchema": NOTHING}], "calls": {**KEEPING["calls"], "wait": "wait"}}, reset="clear")
    toolkit = source.toolkit()
    number = pid(toolkit)
    source.timeout = 0.3
    assert "timed out" in ask(toolkit, "wait")[0]
    source.timeout = 60.0
    del toolkit
    assert pid(source.toolkit()) != number
    assert gone(number)


# ---------------------------------------------------------------- servers that do not behave
@pytest.mark.parametrize(
    ("texts", "structured", "expected"),
    [
        (["3"], {"result": 3}, "3"),
        (["a", "b"], {"result": ["a", "b"]}, "a\nb"),
        (["a.txt"], {"content": "a.txt"}, "a.txt"),
        (['[{"x": 1}]'], {"items": [{"x": 1}]}, '[{"x": 1}]'),
        (['{"x": 1, "y": 2}'], {"y": 2, "x": 1}, '{"x": 1, "y": 2}'),
        (["done"], {"x": 1}, 'done\n{"x": 1}'),
        ([], {"x": 1}, '{"x": 1}'),
        (["a"], {"result": ["a", "b"]}, 'a\n{"result": ["a", "b"]}'),
        (["[" * 100_000], {"x": 1}, "[" * 100_000 + '\n{"x": 1}'),
        (["a"], None, "a"),
    ],
)
def test_structured_content_is_shown_unless_the_text_says_the_same(texts: list[str], structured: Any, expected: str) -> None:
    result = CallToolResult(content=[TextContent(text=text) for text in texts], structured_content=structured)
    assert content_text(result) == expected


def test_one_bad_tool_is_left_out_and_the_others_are_offered(raw: Raw, caplog: pytest.LogCaptureFixture) -> None:
    schemas = {
        "text": {"type": "string"},
        "kind": {"type": "object", "properties": {"x": {"type": "strng"}}},
        "away": {"type": "object", "properties": {"x": {"$ref": "https://example.com/schema.json"}}},
        "list": ["nonsense"],
        "none": None,
    }
    listed = [{"name": name, "inputSchema": schema} for name, schema in schemas.items()]
    listed += [{"name": "recall", "inputSchema": NOTHING}, {"name": "recall", "inputSchema": WORD}, {"name": "a.b/c d", "inputSchema": NOTHING}]
    source = raw({"tools": listed, "calls": {"recall": "recall", "a.b/c d": "recall"}})
    assert set(source.left_out) == {*schemas, "recall"}
    assert all(name in caplog.text for name in schemas)
    assert list(source.toolkit()) == ["recall", "a_b_c_d", "finish"]
    assert source.renamed == {"a.b/c d": "a_b_c_d"}
    assert [ask(source.toolkit(), name)[1] for name in ("recall", "a_b_c_d")] == ["", ""]
    with pytest.raises(InvalidArgument, match="'kind' of the MCP server cannot be offered"):
        raw({"tools": listed, "calls": {}}, tools=["kind"])


def _result(**result: Any) -> dict[str, Any]:
    return {"result": {"content": [], **result}}


def _error(code: int) -> dict[str, Any]:
    return {"error": {"code": code, "message": "so it is"}}


ANSWERS = {
    "wrong_output": (_result(structuredContent={"n": "x"}), "tool_failed", "output"),
    "no_output": (_result(content=[{"type": "text", "text": "hello"}]), "tool_failed", "output"),
    "no_result": ({"result": {"content": "nonsense"}}, "tool_failed", "breaks the protocol"),
    "internal": (_error(-32603), "tool_failed", "so it is"),
    "invalid": (_error(-32602), "bad_arguments", "so it is"),
    "missing": (_error(-32002), "rejected", "so it is"),
    "busy": (_error(-32000), "transient", "so it is"),
    "refused": (_result(isError=True, content=[{"type": "text", "text": "not allowed"}]), "rejected", "not allowed"),
}


def test_errors_are_whose_they_are_and_the_server_stays(raw: Raw) -> None:
    output = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    listed = [{"name": name, "inputSchema": NOTHING, **({"outputSchema": output} if "output" in name else {})} for name in ANSWERS]
    source = raw({"tools": [*listed, {"name": "recall", "inputSchema": NOTHING}], "calls": {"recall": "recall", **{k: v[0] for k, v in ANSWERS.items()}}})
    toolkit = source.toolkit()
    number = pid(toolkit)
    for name, (_, error, text) in ANSWERS.items():
        content, found = ask(toolkit, name)
        assert (found, text in content) == (error, True), (name, content)
    assert pid(toolkit) == number


@pytest.mark.parametrize("deaf", [False, True])
def test_a_server_that_does_not_start_is_ended_with_its_last_words(raw: Raw, tmp_path: Path, deaf: bool, capfd: pytest.CaptureFixture[str]) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(Unavailable, match=r"no answer within 4 s; its last words: x+ last words$") as raised:
        raw({"before": "hang", "deaf": deaf, "mark": str(mark), "noise": 300_000, "garbage": 200}, start_timeout=4.0)
    assert len(str(raised.value)) < 2000
    assert gone(int(mark.read_text()))
    printed = capfd.readouterr()
    assert len(printed.out + printed.err) < 2000


def test_a_server_that_cannot_start_says_why(raw: Raw) -> None:
    with pytest.raises(Unavailable, match="last words"):
        raw({"before": "exit"})
    with pytest.raises(Unavailable, match="/no/such/program"):
        McpSource(["/no/such/program"])


def test_garbage_before_the_first_message_does_no_harm(raw: Raw) -> None:
    assert ask(raw({**KEEPING, "garbage": 20, "noise": 100_000}).toolkit(), "remember", word="a") == ("kept", "")


def test_a_source_that_nobody_holds_ends_its_server(raw: Raw, tmp_path: Path) -> None:
    file = tmp_path / "script.json"
    file.write_text(json.dumps(KEEPING), encoding="utf-8")
    number = pid(McpSource([sys.executable, mcp_raw.__file__, str(file)]).toolkit())
    assert gone(number)


def test_secrets_and_long_results_are_cut(raw: Raw) -> None:
    source = raw({**KEEPING, "calls": {"recall": _result(content=[{"type": "text", "text": "x" * 100}])}}, max_bytes=10)
    assert ask(source.toolkit(), "recall") == ("x" * 10 + " … [cut]", "")


def test_a_source_says_why_it_cannot_be_pickled(raw: Raw) -> None:
    source = raw(KEEPING)
    for value in (source, source.toolkit()):
        with pytest.raises(TypeError, match="make one in every process"):
            pickle.dumps(value)


def test_a_closed_source_starts_nothing_any_more(raw: Raw) -> None:
    source = raw(KEEPING)
    toolkit = source.toolkit()
    number = pid(toolkit)
    source.close()
    assert gone(number)
    for one in (toolkit, source.toolkit()):
        assert ask(one, "recall")[1] == "unavailable"


def test_many_episodes_at_once_find_one_new_session(raw: Raw) -> None:
    source = raw(KEEPING)
    os.kill(pid(source.toolkit()), 9)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(pid(source.toolkit()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


# ---------------------------------------------------------------- what the user gets wrong
@pytest.mark.parametrize(
    ("server", "options", "message"),
    [
        ("http://127.0.0.1:1/mcp", {"hosts": ["example.com"]}, "allowed"),
        ("http://127.0.0.1:1/mcp", {"hosts": ["127.0.0.1"], "transport": "websocket"}, "http, sse"),
        ("http://127.0.0.1:1/mcp", {"hosts": ["127.0.0.1"], "cwd": "/"}, "cwd="),
        ("http://127.0.0.1:1/mcp", {"hosts": ["127.0.0.1"], "token": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE"),
        (["true"], {"token": "BEARER"}, "token="),
        (["true"], {"reset": "x", "restart": True}, "two ways"),
    ],
)
def test_arguments_that_do_not_go_together(server: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        McpSource(server, **options)


def test_names_that_the_server_does_not_have(raw: Raw) -> None:
    with pytest.raises(UnknownName, match="recall"):
        raw(KEEPING, tools=["recal"])
    with pytest.raises(UnknownName, match="clear"):
        raw(KEEPING, reset="cleer")
    with pytest.raises(InvalidArgument, match="pass ToolCall"):
        raw(KEEPING, reset="remember")
