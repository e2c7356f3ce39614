"""Model servers as policies: a real server on loopback that speaks the OpenAI form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from servers import Reply, Request, serving

from steptool_agents.chat import ChatClient
from steptool_agents.evaluate import evaluate
from steptool_agents.remote import RemotePolicy, native, read_native, served_tokens
from steptool_env import Malformed, Message, StepToolEnv, ToolCall, make_format, make_suite
from steptool_env.errors import Unavailable

pytest.importorskip("httpx2")


def message(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function", "function": function}]}


def scripted(seen: list[dict[str, Any]], form: str) -> Any:
    """A server that plays the oracle: it finds out from the transcript alone which call comes next."""
    suite = make_suite("jsonl", split="all")

    def reply(request: Request) -> Reply:
        body = json.loads(request.body)
        seen.append(body)
        user = next(one["content"] for one in body["messages"] if one["role"] == "user")
        task = next(task for task in suite if task.instruction == user)
        env = StepToolEnv(suite, "final")
        env.reset(options={"task": task.id})
        for _ in range(sum(one["role"] == "assistant" for one in body["messages"])):
            env.step(env.solution()[0])
        call = env.solution()[0]
        said = message(call) if form == "native" else {"role": "assistant", "content": make_format(form).render(call)}
        choice = {"message": said, "token_ids": [5, 6], "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]}}
        return 200, {}, json.dumps({"choices": [choice]})

    return reply


@pytest.mark.parametrize("form", ["native", "openai"])
def test_a_served_model_plays_whole_episodes(form: str) -> None:
    seen: list[dict[str, Any]] = []
    with serving(scripted(seen, form)) as here:
        client = ChatClient(f"http://{here}/v1")
        policy = RemotePolicy(client, "m", call_format=None if form == "native" else form, logprobs=True)
        suite = make_suite("jsonl", split="all")
        report, trajectories = evaluate(policy, suite, range(len(suite)), width=6)
        client.close()
    assert report.success == 1.0
    generation = trajectories[0].steps[0].generation
    assert (generation.token_ids, generation.logprobs) == ((5, 6), (-0.5, -0.25))
    assert all(("tools" in body) == (form == "native") and body["logprobs"] for body in seen)


def test_a_server_that_is_gone_blames_nobody() -> None:
    client = ChatClient("http://127.0.0.1:9/v1", attempts=1)
    env = StepToolEnv(make_suite("jsonl"))
    observation, _ = env.reset(seed=0)
    with pytest.raises(Unavailable, match="1 of 1"):
        RemotePolicy(client, "m").act([observation], [env])
    client.close()


def test_transcripts_in_the_native_form() -> None:
    call = json.dumps({"name": "f", "arguments": {"x": 1}})
    chat = native([Message("user", "u"), Message("assistant", call), Message("tool", "r"), Message("assistant", call), Message("user", "next")])
    assert [one["role"] for one in chat] == ["user", "assistant", "tool", "assistant", "tool", "user"]
    assert chat[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": 1}'}
    assert (chat[2]["tool_call_id"], chat[2]["content"]) == (chat[1]["tool_calls"][0]["id"], "r")
    odd = native([Message("user", "u"), Message("assistant", "no call"), Message("tool", "Error: …")])
    assert [one["role"] for one in odd] == ["user", "assistant", "user"]


@pytest.mark.parametrize("function", [None, {}, {"name": "f", "arguments": "{"}, {"name": "f", "arguments": []}])
def test_broken_calls_are_malformed(function: dict[str, Any] | None) -> None:
    assert isinstance(read_native({"content": "hi"} if function is None else {"tool_calls": [{"function": function}]}), Malformed)


def test_tokens_only_where_both_are_served() -> None:
    entries = {"content": [{"logprob": -1.0}]}
    assert served_tokens({"token_ids": [7], "logprobs": entries}) == ((7,), (-1.0,))
    for message in ({}, {"token_ids": [7]}, {"logprobs": entries}, {"token_ids": [7, 8], "logprobs": entries}, {"token_ids": ["x"], "logprobs": entries}):
        assert served_tokens(message) == ((), ())
