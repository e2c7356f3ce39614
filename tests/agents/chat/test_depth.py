"""However deep a model nests what it writes, every path from its text to a step, a file and a later prompt gets a call or a ``Malformed``."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from lms import tokenizer
from servers import Request, serving

from steptool_agents import ChatClient, ChatCompletionsPolicy, evaluate, read_jsonl, write_jsonl
from steptool_agents.chat.base import render_action
from steptool_agents.chat.control import ControlTokens
from steptool_agents.trajectory.messages import as_tool_calls, read_tool_call
from steptool_env import FORMATS, Malformed, Message, StepToolEnv, ToolCall, make_format, make_suite
from steptool_env.jsontext import MAX_DEPTH

CONTROL = ControlTokens(tokenizer())
DEPTHS = [MAX_DEPTH, 100, 700, 2000, 30_000]


def written(name: str, depth: int) -> str:
    """Return the text of a call whose argument is nested so deep, as the format writes calls."""
    shallow = make_format(name).render(ToolCall("a", {"x": "here"}))
    value = "[" * depth + "]" * depth
    for quoted in ('\\"here\\"', '"here"', '<|"|>here<|"|>', "here"):
        shallow = shallow.replace(quoted, value)
    return shallow


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format(name: str, depth: int) -> None:
    form, text = make_format(name), written(name, depth)
    assert "[" * depth in text
    action = form.parse(text)
    assert isinstance(action, ToolCall | Malformed)
    if depth > MAX_DEPTH + 8:
        # A form that writes texts without quotes reads a text.
        assert ("deep" in action.reason) if isinstance(action, Malformed) else isinstance(action.arguments["x"], str)
    copy.deepcopy(action)
    env = StepToolEnv("worlds")
    env.reset(seed=0)
    observation, *_, info = env.step(action)
    assert info["tool_error"] in ("malformed", "unknown_tool")
    for message in (observation["messages"][-2], Message("assistant", text)):
        render_action(message, form, CONTROL)
        as_tool_calls([Message("user", "x"), message, Message("tool", "r")])


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("depth", [100, 700])
def test_native_calls(depth: int, as_text: bool) -> None:
    text = '{"x": ' + "[" * depth + "]" * depth + "}"
    action = read_tool_call({"tool_calls": [{"function": {"name": "a", "arguments": text if as_text else json.loads(text)}}]})
    assert isinstance(action, Malformed)


@pytest.mark.parametrize("call_format", [None, "hermes", "pythonic"])
def test_a_chat_server_that_nests_ends_no_evaluation(call_format: str | None, tmp_path: Path) -> None:
    deep = "[" * 2000 + "]" * 2000

    def reply(request: Request) -> tuple[int, dict[str, str], str]:
        function = {"name": "a", "arguments": f'{{"x": {deep}}}'}
        message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
        if call_format is not None:
            message = {"role": "assistant", "content": written(call_format, 2000)}
        return 200, {}, json.dumps({"choices": [{"message": message}]})

    with serving(reply) as here:
        policy = ChatCompletionsPolicy(ChatClient(f"http://{here}/v1"), "m", call_format=call_format)
        report, played = evaluate(policy, make_suite("worlds", level=1), [0, 1], max_steps=3)
    assert (report.episodes, report.success, report.call_success, report.masked) == (2, 0.0, 0.0, 0)
    write_jsonl(tmp_path / "episodes.jsonl", played)
    assert len(read_jsonl(tmp_path / "episodes.jsonl")) == 2
