"""What a policy remembers of running episodes: each message is written as tokens once."""

from __future__ import annotations

from collections.abc import Sequence

from lms import tokenizer

from steptool_agents.chat.base import Written
from steptool_agents.chat.control import ControlTokens
from steptool_agents.policies.transcripts import Transcripts
from steptool_env.types import Message, Observation, ToolCall

USER, CALL, RESULT, TOOLS = Message("user", "Do it."), Message("assistant", "{}"), Message("tool", "done"), "[]"


class Letters:
    """Writes one token per message, and a 9 for the tools."""

    opening = ""
    control = ControlTokens(tokenizer())

    def prompt(self, observation: Observation) -> list[int]:
        return [9, *[len(message.content) for message in observation["messages"]]]

    def extend(self, action: Message, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        return [100 * ended, *[9] * bool(tools), *[len(message.content) for message in messages]]

    def write(self, call: ToolCall) -> Written:
        return Written(call.name, [len(call.name)], False)


def observed(*messages: Message, tools: str = TOOLS) -> Observation:
    return {"messages": messages, "tools": tools}


def test_only_what_is_new_is_read() -> None:
    transcripts = Transcripts(Letters(), room=100)
    first = transcripts.read("a", observed(USER))
    assert (first.context, first.new, first.length) == ([9, 6], True, 2)
    first.record([1, 2, 3], ended=True)
    again = transcripts.read("a", observed(USER, CALL, RESULT))
    assert again is first
    assert (again.context, again.new, again.length) == ([100, 4], False, 7)
    again.record([1], ended=False)
    assert transcripts.read("a", observed(USER, CALL, RESULT, CALL, RESULT, tools="[1]")).context == [0, 9, 4], "the tools have changed"


def test_another_episode_begins_anew() -> None:
    transcripts = Transcripts(Letters(), room=100)
    transcripts.read("a", observed(USER)).record([1], ended=False)
    for messages in ((USER,), (Message("user", "Else."), CALL, RESULT)):
        assert transcripts.read("a", observed(*messages)).new
    assert transcripts.read("b", observed(USER)).new, "equal transcripts, another episode"
    assert transcripts.keys() == ["a", "b"]
    transcripts.drop("a")
    transcripts.clear()
    assert transcripts.keys() == []


def test_a_full_window_stays_full() -> None:
    transcripts = Transcripts(Letters(), room=3)
    first = transcripts.read("a", observed(USER))
    assert not first.full
    first.record([1, 2], ended=False)
    assert transcripts.read("a", observed(USER, CALL, RESULT)).full
    assert transcripts.read("a", observed(USER)).full is False, "a new episode"
