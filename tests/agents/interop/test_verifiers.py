"""Suites in verifiers: its own agents, traces and interception, with a harness that plays within the process and a server that says what it is told."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verifiers.v1", reason="verifiers is not installed: pip install 'steptool-env[verifiers]'")

import verifiers.v1 as vf
from replays import call, replay
from verifiers.v1.utils.loaders import load_environment, resolve_env_config

from steptool_env import StepToolEnv, make_format, read

pytestmark = pytest.mark.filterwarnings("ignore")  # the business of verifiers and of what it imports
FORM = make_format("hermes")


class Writer:
    """A model server: replies with what ``say`` makes of the conversation."""

    def __init__(self) -> None:
        self.seen: list[list[dict[str, Any]]] = []
        self.say: Any = None
        writer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                writer.seen.append(body["messages"])
                message = {"role": "assistant", "content": writer.say(body["messages"])}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
                raw = json.dumps(answer | {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"


HARNESS = '''
import httpx
import verifiers.v1 as vf

__all__ = ["Within"]


class WithinConfig(vf.HarnessConfig):
    pass


class Within(vf.Harness[WithinConfig]):
    """One reply of the model for each turn, without a program of its own."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        system, prompt = self.resolve_prompt(data)
        chat = [{"role": "system", "content": system}]
        chat += [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [{"role": one.role, "content": one.content} for one in prompt]
        async with httpx.AsyncClient(timeout=30) as client:
            body, headers = {"model": ctx.model, "messages": chat}, {"authorization": f"Bearer {secret}"}
            reply = await client.post(f"{endpoint}/chat/completions", json=body, headers=headers)
        reply.raise_for_status()
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")
'''


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    (tmp_path / "steptool_plugin.py").write_text("from steptool_agents.interop.verifiers import *\nfrom steptool_agents.interop.verifiers import __all__\n")
    (tmp_path / "within_harness.py").write_text(HARNESS)
    monkeypatch.syspath_prepend(tmp_path)
    made = Writer()
    yield made
    made.server.shutdown()
    made.server.server_close()
    for name in ("steptool_plugin", "within_harness"):
        sys.modules.pop(name, None)


def play(writer: Writer, tasks: list[int], *, max_turns: int | None = None, **settings: Any) -> list[Any]:
    """Return the episodes of these tasks, as verifiers records them."""
    player = {"harness": {"id": "within-harness"}, "runtime": {"type": "subprocess"}, "max_turns": max_turns}
    config = resolve_env_config({"taskset": {"id": "steptool-plugin", **settings}, "player": player})
    env = load_environment(config)
    chosen = list(env.taskset.include(idx=[str(task) for task in tasks]))
    ctx = vf.ModelContext(model="m", client=vf.EvalClientConfig(base_url=writer.url, api_key_var="NONE"), sampling=vf.SamplingConfig())

    async def run() -> list[Any]:
        async with env.serving():
            return [await env.run_episode(task, ctx) for task in chosen]

    return asyncio.run(run())


def test_the_reward_is_that_of_our_own_rollout(writer: Writer) -> None:
    rng, options = random.Random(0), {"level": 2, "faults": 1}
    core = StepToolEnv("worlds", **options)
    texts: list[str] = []

    def say(messages: list[dict[str, Any]]) -> str:
        if len(messages) == 2:
            texts.clear()
            core.reset(options={"task": next(index for index in range(10) if core.suite[index].instruction == messages[1]["content"])})
        text = "I look. " + FORM.render(call(rng, core, offered=False)) if rng.random() < 0.9 else "I do not know."
        texts.append(text)
        core.step(read(FORM, text, tools=[one.schema for one in core.episode.toolkit.values()]).action)  # type: ignore[union-attr]
        played[core.task.id] = list(core.episode)  # type: ignore[arg-type]
        return text

    played: dict[str, Any] = {}
    writer.say = say
    episodes = play(writer, list(range(10)), options=options)
    assert len(episodes) == 10
    for index, episode in enumerate(episodes):
        assert episode.ok, episode.errors
        (trace,) = episode.traces
        ours = replay(index, [step.action for step in played[trace.task.data.id]], suite="worlds", **options)
        assert trace.reward == pytest.approx(sum(ours.rewards), abs=1e-12)
        last = ours.steps[-1].transition
        assert last.outcome is not None
        assert trace.metrics["success"] == last.outcome.solved and trace.metrics["steps"] == len(ours.steps)
    assert {trace.metrics["success"] for episode in episodes for trace in episode.traces} == {0.0, 1.0}
    assert writer.seen[1][0]["role"] == "system" and writer.seen[1][-1]["content"].startswith("<tool_response>")


def test_a_limit_of_verifiers_ends_the_episode(writer: Writer) -> None:
    writer.say = lambda messages: "I think."
    (episode,) = play(writer, [0], max_turns=2)
    (trace,) = episode.traces
    assert trace.metrics["steps"] == 3 and trace.metrics["success"] == 0, "two malformed steps, and leaving"


def test_an_infrastructure_fault_is_an_error_and_no_reward(writer: Writer) -> None:
    writer.say = lambda messages: '<tool_call>{"name": "phone", "arguments": {}}</tool_call>'
    (episode,) = play(writer, [0], suite="toy:Counting")
    assert not episode.ok and "no answer" in episode.errors[0].message
    assert all("steptool" not in trace.rewards for trace in episode.traces)
