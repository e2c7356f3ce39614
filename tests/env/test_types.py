from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from types import MappingProxyType

import pytest

from steptool_env import ERRORS, FORMATS, Malformed, Message, Outcome, Reading, StepToolEnv, Task, ToolCall, ToolResult, Transition, as_chat, make_format, read

TASK = Task("t1", "Do it.", ("finish",), 3)
VALUES = [
    ToolCall("f", {"x": 1}),
    Malformed("hm", "no call"),
    ToolResult("ok"),
    TASK,
    Outcome(0.5, "half"),
    Transition(TASK, 0, ToolCall("f"), ToolResult("ok"), False, False, None),
]


def test_as_chat_makes_what_chat_templates_take() -> None:
    transcript = (Message("user", "Hi."), Message("assistant", "{}"), Message("tool", "é"))
    assert as_chat(transcript) == [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "{}"}, {"role": "tool", "content": "é"}]
    assert as_chat(()) == []
    assert as_chat([("user", "plain tuples work as well")])[0]["role"] == "user"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_comparable_and_picklable(value: object) -> None:
    first = value.__match_args__[0]  # type: ignore[attr-defined]  # dataclasses and named tuples have it
    with pytest.raises(AttributeError):
        setattr(value, first, "other")
    with pytest.raises((AttributeError, TypeError)):
        value.further = 1  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_message_is_a_tuple() -> None:
    message = Message("user", "Hi.")
    assert message == ("user", "Hi.")
    assert (message.role, message.content) == tuple(message)


def test_arguments_of_two_calls_are_not_shared() -> None:
    assert ToolCall("f").arguments is not ToolCall("f").arguments


def test_the_constructors_written_by_hand_do_what_generated_ones_did() -> None:
    call = ToolCall(name="f", arguments={"x": 1}, repaired=("comment",))
    assert repr(call) == "ToolCall(name='f', arguments={'x': 1})"
    assert call == ToolCall("f", {"x": 1}) != ToolCall("f")
    assert replace(call, name="g") == ToolCall("g", {"x": 1}) and replace(call, name="g").repaired == ("comment",)
    assert ToolCall("f", None).arguments is None  # type: ignore[arg-type]  # what is no mapping is for the toolkit to refuse
    assert copy.copy(call) == call and copy.deepcopy(call).arguments is not call.arguments
    assert ToolResult(content="x", error="rejected") == replace(ToolResult("x"), error="rejected")
    assert repr(ToolResult("x")) == "ToolResult(content='x', error='')"
    with pytest.raises(TypeError):
        ToolCall()  # type: ignore[call-arg]


def test_a_call_as_a_dict_and_as_text() -> None:
    arguments = MappingProxyType({"x": [1], "é": None})
    call = ToolCall("f", arguments)
    assert call.as_dict() == {"name": "f", "arguments": {"x": [1], "é": None}}
    assert type(call.as_dict()["arguments"]) is dict
    call.as_dict()["arguments"]["y"] = 2
    assert call.as_dict()["arguments"] == arguments
    assert call.as_json() == '{"name": "f", "arguments": {"x": [1], "é": null}}'
    with pytest.raises(TypeError, match="not JSON serializable"):
        ToolCall("f", {"x": object()}).as_json()


def test_success_is_the_empty_error() -> None:
    assert ToolResult("ok").error == ERRORS[0] == ""
    assert len(set(ERRORS)) == len(ERRORS)


def test_what_is_built_without_its_constructor_has_all_its_fields() -> None:
    """``new_tuple`` knows no defaults: a field that is added must be written where tuples are built by it."""
    env = StepToolEnv("worlds", level=1)
    env.reset(seed=0)
    for call in env.solution():
        observation, *_ = env.step(call)
    for kind, made in ((Transition, env.episode), (Message, observation["messages"])):
        assert made
        for one in made:
            assert type(one) is kind
            assert len(one) == len(kind._fields)
    for form in FORMATS:
        reading = read(make_format(form), make_format(form).render(ToolCall("look", {"a": 1})))
        assert len(reading) == len(Reading._fields), form
