"""Model servers as policies: a real server on loopback that speaks the OpenAI form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import Reply, Request, oracle_chat, process, serving

from steptool_agents.policies.chat_completions import ChatCompletionsPolicy, served_tokens
from steptool_agents.rollouts.evaluate import evaluate
from steptool_agents.servers.client import ChatClient
from steptool_agents.trajectory import Trajectory, read_jsonl, write_jsonl
from steptool_agents.trajectory.messages import as_tool_calls, read_tool_call
from steptool_env import Malformed, Message, Unanswered, make_suite
from steptool_env.errors import Unavailable

pytest.importorskip("httpx2")


@pytest.mark.parametrize("form", ["native", "openai"])
def test_a_served_model_plays_whole_episodes(form: str) -> None:
    seen: list[dict[str, Any]] = []
    with serving(oracle_chat(form, seen)) as here:
        client = ChatClient(f"http://{here}/v1")
        policy = ChatCompletionsPolicy(client, "m", call_format=None if form == "native" else form, logprobs=True)
        suite = make_suite("jsonl", split="all")
        report, trajectories = evaluate(policy, suite, range(len(suite)), width=6)
        client.close()
    assert report.success == 1.0
    generation = trajectories[0].steps[0].generation
    assert (generation.token_ids, generation.logprobs) == ((5, 6), (-0.5, -0.25))
    assert all(("tools" in body) == (form == "native") and body["logprobs"] for body in seen)


def flaky(status: int, times: int) -> Callable[[Request], Reply]:
    """The oracle, after a server that answers with this status the first ``times`` times."""
    asked, oracle = [0], oracle_chat("native")

    def reply(request: Request) -> Reply:
        asked[0] += 1
        return (status, {"Retry-After": "0"}, "busy") if asked[0] <= times else oracle(request)

    return reply


def test_a_server_killed_in_mid_episode_masks_its_episodes_and_the_run_goes_on(tmp_path: Path) -> None:
    suite = make_suite("jsonl", split="all")
    ended: list[Trajectory] = []
    with process("chat") as (server, here):

        def kill(trajectory: Trajectory) -> None:
            ended.append(trajectory)
            server.kill()
            server.wait()

        client = ChatClient(f"http://{here}/v1", attempts=2, backoff=0.0)
        policy = ChatCompletionsPolicy(client, "m")
        report, trajectories = evaluate(policy, suite, range(len(suite)), width=6, on_done=kill)
        client.close()
    assert len(ended) == report.episodes == len(suite)
    solved = [one for one in trajectories if one.success == 1.0]
    cut = [one for one in trajectories if one.steps[-1].masked]
    assert solved and len(solved) + len(cut) == len(suite)
    assert report.masked == policy.unanswered == len(cut)
    assert report.success == len(solved) / len(suite)
    assert {len(one.steps) > 1 for one in cut} == {True, False}  # some in mid-episode, some before their first step
    for one in cut:
        last = one.steps[-1]
        assert isinstance(last.transition.action, Unanswered)
        assert (last.transition.result.error, one.truncated, one.terminated, last.reward) == ("unavailable", True, False, 0.0)
    write_jsonl(tmp_path / "t.jsonl", trajectories)
    read = read_jsonl(tmp_path / "t.jsonl")
    assert [[step.generation.action for step in one.steps] for one in read] == [[step.generation.action for step in one.steps] for one in trajectories]
    assert [one.masked.tolist() for one in read] == [one.masked.tolist() for one in trajectories]


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_fails_and_then_works(status: int) -> None:
    suite = make_suite("jsonl", split="all")
    with serving(flaky(status, 3)) as here:
        client = ChatClient(f"http://{here}/v1", attempts=4, backoff=0.0)
        policy = ChatCompletionsPolicy(client, "m")
        report, _ = evaluate(policy, suite, range(len(suite)), width=6)
        client.close()
    assert (report.success, report.masked, policy.unanswered) == (1.0, 0, 0)
    assert client.failures == {f"http {status}": 3}


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_fails_for_longer_than_it_is_asked(status: int) -> None:
    suite = make_suite("jsonl", split="all")
    with serving(flaky(status, 6)) as here:
        client = ChatClient(f"http://{here}/v1", attempts=2, backoff=0.0, concurrency=1)
        report, trajectories = evaluate(ChatCompletionsPolicy(client, "m"), suite, range(len(suite)), width=6)
        client.close()
    # One at a time, twice each: the first three requests are given up, the rest of the run is played.
    assert [one.steps[-1].masked for one in trajectories] == [True] * 3 + [False] * (len(suite) - 3)
    assert (report.masked, report.success) == (3, (len(suite) - 3) / len(suite))


def test_a_server_that_refuses_from_the_start_is_a_wrong_setting() -> None:
    with serving(lambda request: (401, {}, "who are you?")) as here:
        client = ChatClient(f"http://{here}/v1", attempts=1)
        with pytest.raises(Unavailable, match=r"refused all of the first 2 requests: HTTP status 401: who are you\?"):
            evaluate(ChatCompletionsPolicy(client, "m"), make_suite("jsonl"), range(2))
        client.close()


def test_transcripts_in_the_native_form() -> None:
    call = json.dumps({"name": "f", "arguments": {"x": 1}})
    chat = as_tool_calls([Message("user", "u"), Message("assistant", call), Message("tool", "r"), Message("assistant", call), Message("user", "next")])
    assert [one["role"] for one in chat] == ["user", "assistant", "tool", "assistant", "tool", "user"]
    assert chat[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": 1}'}
    assert (chat[2]["tool_call_id"], chat[2]["content"]) == (chat[1]["tool_calls"][0]["id"], "r")
    odd = as_tool_calls([Message("user", "u"), Message("assistant", "no call"), Message("tool", "Error: …")])
    assert [one["role"] for one in odd] == ["user", "assistant", "user"]


@pytest.mark.parametrize("function", [None, {}, {"name": "f", "arguments": "{"}, {"name": "f", "arguments": []}])
def test_broken_calls_are_malformed(function: dict[str, Any] | None) -> None:
    assert isinstance(read_tool_call({"content": "hi"} if function is None else {"tool_calls": [{"function": function}]}), Malformed)


MUCH = 300_000
LONG: dict[str, str] = {
    "400 nested calls around it": '[{"function":{"name":"a","arguments":{"x":' * 400 + json.dumps("y" * MUCH) + "}}}]" * 400,
    "20 nested calls around brackets": '[{"function":{"name":"a","arguments":{"x":' * 20 + json.dumps("{[" * (MUCH // 2)) + "}}}]" * 20,
    "empty lists": '[{"function":{"name":"a","arguments":{"x":[' + "[]," * (MUCH // 3) + "1]}}}]",
    "brackets in a text": json.dumps([{"function": {"name": "a", "arguments": json.dumps({"x": "{[" * (MUCH // 2)})}}]),
    "the name": json.dumps([{"function": {"name": "a" * MUCH, "arguments": "{}"}}]),
    "a name that is a list": '[{"function":{"name":[' + "[]," * (MUCH // 3) + '1],"arguments":"{}"}}]',
    "many calls": "[" + '{"function":{"name":7,"arguments":{}}},' * (MUCH // 40) + "1]",
    "the content": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", [None, "openai", "pythonic"])
def test_megabytes_are_not_looked_at_and_not_carried_along(form: str | None) -> None:
    suite, said = make_suite("jsonl", split="all"), [""]
    with serving(lambda request: (200, {}, said[0])) as here:
        client = ChatClient(f"http://{here}/v1", attempts=1)
        for kind, calls in LONG.items():
            if form and kind != "the content":
                continue
            text = "{[" * (MUCH // 2) if not calls else None
            said[0] = f'{{"choices": [{{"message": {{"content": {json.dumps(text)}, "tool_calls": {calls or "null"}}}}}]}}'
            _, (trajectory,) = evaluate(ChatCompletionsPolicy(client, "m", call_format=form), suite, range(1), width=1)
            for step in trajectory.steps:
                assert isinstance(step.transition.action, Malformed), kind
                assert len(step.transition.action.text) + len(step.generation.text) + len(step.transition.result.content) < 5000, kind
        client.close()


def test_tokens_only_where_both_are_served() -> None:
    entries = {"content": [{"logprob": -1.0}]}
    assert served_tokens({"token_ids": [7], "logprobs": entries}, 1) == ((7,), (-1.0,))
    for message in ({}, {"token_ids": [7]}, {"logprobs": entries}, {"token_ids": [7, 8], "logprobs": entries}):
        assert served_tokens(message, 9) == ((), ())


@pytest.mark.parametrize(
    ("ids", "logprobs"),
    [("[7.0]", "[-1]"), ("[-7]", "[-1]"), ("[true]", "[-1]"), ('["7"]', "[-1]"), ("[7]", "[NaN]"), ("[7]", "[0.5]"), ("[7]", "[-Infinity]"), ("[7]", "[null]"),
     ("[7]", "[-9999.0]"), ("[7]", "[%s]" % ("9" * 400)), (f"{[7] * 513}", f"{[-1] * 513}")],
)  # fmt: skip
def test_tokens_that_cannot_have_been_sampled_are_an_infrastructure_fault(ids: str, logprobs: str) -> None:
    entries = ", ".join(f'{{"logprob": {logprob}}}' for logprob in logprobs.strip("[]").split(","))
    call = json.dumps([{"function": {"name": "finish", "arguments": '{"answer": "1"}'}}])
    answer = f'{{"choices": [{{"message": {{"tool_calls": {call}}}, "token_ids": {ids}, "logprobs": {{"content": [{entries}]}}}}]}}'
    with serving(lambda request: (200, {}, answer)) as here:
        client = ChatClient(f"http://{here}/v1", attempts=2, backoff=0.0)
        policy = ChatCompletionsPolicy(client, "m", logprobs=True)
        report, trajectories = evaluate(policy, make_suite("jsonl", split="all"), range(2), width=2)
        assert (report.masked, policy.unanswered, client.failures["nonsense"]) == (2, 2, 4)
        assert all(isinstance(one.steps[-1].transition.action, Unanswered) and not one.steps[-1].generation.token_ids for one in trajectories)
        policy = ChatCompletionsPolicy(client, "m")  # whoever does not ask for them does not look at them
        assert evaluate(policy, make_suite("jsonl", split="all"), range(2), width=2)[0].masked == 0
        client.close()
