"""Tools of MCP servers in processes of their own, over stdio and HTTP."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import servers
from servers import process

from steptool_env import StepToolEnv, ToolCall
from steptool_env.errors import InvalidArgument, Unavailable, UnknownName
from steptool_env.tasks.jsonl import Jsonl
from steptool_env.tasks.wrapped import WithTools
from steptool_env.tools.mcp import McpSource
from steptool_env.tools.recording import Recorder

pytest.importorskip("mcp", reason="mcp is not installed: pip install 'steptool-env[mcp]'")
STDIO = [sys.executable, servers.__file__, "mcp-stdio"]
TASK = {"id": "t", "instruction": "What is a1?", "answer": "lamp", "calls": [{"name": "get_item", "arguments": {"id": "a1"}}]}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(TASK), encoding="utf-8")
    return path


def test_an_episode_over_stdio_recorded_and_replayed_with_the_server_gone(tasks: Path, tmp_path: Path) -> None:
    source = McpSource(STDIO)
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


def test_calls_over_http_at_the_same_time_and_a_server_that_is_killed(tasks: Path) -> None:
    with process("mcp-http") as (running, here):
        url = f"http://{here}/mcp"
        with pytest.raises(InvalidArgument, match="allowed"):
            McpSource(url, hosts=["example.com"])
        source = McpSource(url, hosts=[here], timeout=10.0)
        toolkit = source.toolkit()
        assert source.tools["add"].parameters["required"] == ["a", "b"]
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda n: toolkit.execute(ToolCall("add", {"a": n, "b": 1})), range(16)))
        assert [(result.content, result.error) for result in results] == [(str(n + 1), "") for n in range(16)]
        assert toolkit.execute(ToolCall("get_item", {"id": "zz"})).error == "tool_failed"
        assert toolkit.execute(ToolCall("add", {"a": "x"})).error == "bad_arguments"
        env = StepToolEnv(Jsonl(tasks, source=source.toolkit, split="all"))
        env.reset(seed=0)
        running.kill()
        running.wait()
        _, reward, terminated, truncated, info = env.step(env.solution()[0])
        assert (reward, terminated, truncated, info["masked"]) == (0.0, False, True, True)
        env.reset(seed=0)
        *_, info = env.step(env.solution()[0])
        assert info["masked"]
        source.close()


def test_a_slow_call_times_out() -> None:
    source = McpSource(STDIO, timeout=1.5, tools=["get_item"])
    assert list(source.toolkit()) == ["get_item", "finish"]
    assert source.toolkit().execute(ToolCall("get_item", {"id": "slow"})).error == "transient"
    with pytest.raises(UnknownName, match="get_item"):
        McpSource(STDIO, tools=["getitem"])
    source.close()


def test_a_server_that_does_not_start() -> None:
    with pytest.raises(Unavailable):
        McpSource([sys.executable, "-c", "pass"], timeout=5.0)
    with pytest.raises(Unavailable):
        McpSource(["/no/such/program"], timeout=5.0)
