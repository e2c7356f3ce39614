from __future__ import annotations

import functools
import json
import time
from typing import Any

import pytest
from calls import CALL, JSON, NASTY, calls
from hypothesis import given, settings
from hypothesis import strategies as st

from steptool_env import FINISH, FORMATS, CallFormat, Malformed, ToolCall, make_format
from steptool_env.adversarial import ADVERSARIAL
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.formats import Llama3, Mistral, OpenAI, Pythonic, Reading, read
from steptool_env.formats.hermes import Hermes
from steptool_env.formats.jsonvalue import decode, encode
from steptool_env.formats.react import ReAct
from steptool_env.formats.signature import compact, signature

each_format = pytest.mark.parametrize("form", [make() for make in FORMATS.values()], ids=list(FORMATS))


def fields(value: Any) -> str:
    """Return a text that tells 1 from 1.0 and True, and -0.0 from 0.0, which == does not."""
    return repr(value)


# ---------------------------------------------------------------- what every format keeps
@each_format
@settings(max_examples=20)
@given(data=st.data())
def test_round_trip(form: CallFormat, data: st.DataObject) -> None:
    call = data.draw(calls(form))
    assert fields(form.parse(form.render(call))) == fields(call)


@each_format
@settings(max_examples=20)
@given(data=st.data(), after=st.text() | st.sampled_from([text for text in NASTY if text not in ("</think>", "<channel|>")]))
def test_what_comes_after_the_call_is_ignored(form: CallFormat, data: st.DataObject, after: str) -> None:
    call = data.draw(calls(form))
    assert form.parse(form.render(call) + "\n" + after) == call


@each_format
@settings(max_examples=20)
@given(data=st.data())
def test_of_several_calls_the_first_is_taken(form: CallFormat, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(calls(form), min_size=2, max_size=3))
    assert form.parse("\n".join(map(form.render, drawn))) == drawn[0]


@each_format
@settings(max_examples=20)
@given(data=st.data())
def test_the_stop_text_is_in_no_call_before_its_end(form: CallFormat, data: st.DataObject) -> None:
    call = data.draw(calls(form))
    text = form.render(call)
    for stop in form.stop:
        assert text.find(stop) in (-1, len(text) - len(stop))
    stopped = text.removesuffix(form.stop[0])
    assert form.parse(stopped) == call  # as the sampler leaves it, if it drops the stop text


THOUGHTS = ["I look it up.\n", "Thought: I use <tool_call> or Action: now.\n", "<tool_call>\n", "Action: none yet\nso\n", "<tool_call>[1]</tool_call>\n"]


@each_format
@pytest.mark.parametrize("before", THOUGHTS)
def test_reasoning_before_the_call_is_ignored(form: CallFormat, before: str) -> None:
    assert form.parse(before + form.render(CALL)) == CALL


@each_format
@settings(max_examples=20)
@given(text=st.text(alphabet=st.characters(), max_size=200))
def test_any_text_is_read(form: CallFormat, text: str) -> None:
    assert isinstance(form.parse(text), ToolCall | Malformed)


PIECES = [
    *NASTY, "Action: ", "Action Input: ", "\n", '{"name": "f", "arguments": ', "{}", "[", "]", ",", ":", '"a"', "1e999", "NaN", "-Infinity", "9" * 5000,
    "\ud800", "<think>", " ", "\t", "null", "true",
]  # fmt: skip


@each_format
@settings(max_examples=20)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_heap_of_fragments_is_read_and_calls_can_be_written_again(form: CallFormat, pieces: list[str]) -> None:
    action = form.parse("".join(pieces))
    if isinstance(action, ToolCall):
        assert form.parse(form.render(action)) == action
        form.render(action).encode("utf-8")
    else:
        assert isinstance(action, Malformed)
        assert action.text == "".join(pieces)
        assert action.reason


NO_JSON = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "[" * 100_000, '{"a":' * 100_000, '"open', "[1,", "b'x'", "007", ""]
UNQUOTED = ("glm", "minimax", "qwen3-coder")
"""Formats in which texts stand between tags without quotes."""
UNQUOTED_NAMES = (*UNQUOTED, "deepseek", "gemma", "harmony", "kimi", "mistral-v11")


@each_format
@pytest.mark.parametrize("value", NO_JSON, ids=lambda value: value[:10])
def test_what_is_not_json_is_malformed(form: CallFormat, value: str) -> None:
    if form.name in UNQUOTED:
        pytest.skip("what is no JSON is a text, where texts stand without quotes")
    text = form.render(ToolCall("f", {"x": "VALUE"}))
    text = text.replace('<|"|>VALUE<|"|>', value)
    # Where the arguments are JSON within a string, so is what stands in for the value.
    text = text.replace(r"\"VALUE\"", encode(value)[1:-1]) if r"\"VALUE\"" in text else text.replace('"VALUE"', value)
    action = form.parse(text)
    assert isinstance(action, Malformed)
    assert "JSON" in action.reason
    assert len(action.reason) < 400


@each_format
@pytest.mark.parametrize("text", ["", "The answer is 7.", "get_order(o17)", 'I found {"name": "Oslo"} in the list.', "\0", "\ud800"])
def test_a_text_without_a_call_is_told_what_was_expected(form: CallFormat, text: str) -> None:
    action = form.parse(text)
    assert isinstance(action, Malformed)
    assert action.text == text
    assert "expected" in action.reason
    for mark in form.render(ToolCall("f")).replace("f", " ").split():
        if mark in ("<tool_call>", "Action:", "Input:"):
            assert mark in action.reason


@each_format
def test_lone_surrogates_are_rendered_as_text_that_can_be_encoded(form: CallFormat) -> None:
    call = ToolCall("f", {"x": "a\ud800b", "é": 1})
    form.render(call).encode("utf-8")
    assert form.parse(form.render(call)) == call


@each_format
def test_names_match_exactly(form: CallFormat) -> None:
    for name in ("Get_Order", "get order", "get-order", "ns.get/order", "gét"):
        if name == "get order" and form.name in UNQUOTED_NAMES:
            with pytest.raises(InvalidArgument, match=f"{form.name!r} cannot write the name of the tool 'get order'"):
                form.render(ToolCall(name, {}))
            continue
        assert form.parse(form.render(ToolCall(name, {}))) == ToolCall(name, {})


@each_format
def test_what_json_cannot_write_is_refused_on_rendering(form: CallFormat) -> None:
    with pytest.raises(ValueError, match="JSON"):
        form.render(ToolCall("f", {"x": float("nan")}))


MARKS_OF = {
    "hermes": "<tool_call>",
    "react": "Action Input:",
    "llama3": "parameters",
    "mistral": "[TOOL_CALLS]",
    "openai": "function",
    "pythonic": "by name",
    "qwen3-coder": "<parameter=",
    "harmony": "<|message|>",
    "glm": "<arg_key>",
    "gemma": '<|"|>',
    "deepseek": "<｜tool▁sep｜>",
    "kimi": "functions.",
    "minimax": "<invoke name=",
    "xlam": "list",
    "granite": "<|tool_call|>",
    "olmo3": "<function_calls>",
    "mistral-v11": "[ARGS]",
}


@each_format
def test_instructions_show_every_tool_and_the_form(form: CallFormat) -> None:
    text = form.instructions([FINISH.schema, {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}])
    for part in ("finish", "answer", "give_up", "look", MARKS_OF[form.name]):
        assert part in text
    assert isinstance(form.parse(text), Malformed)  # the example in it is no call


@functools.cache
def _adversarial(kind: str, size: int) -> str:
    return ADVERSARIAL[kind](size)


@each_format
def test_time_is_linear_in_the_length(form: CallFormat) -> None:
    """What takes quadratic time never passes; what is linear passes at once on an idle machine. Figures: benchmarks/fuzz.py."""

    def seconds(kind: str, size: int) -> float:
        text = _adversarial(kind, size)
        start = time.process_time()
        read(form, text)
        return time.process_time() - start

    # 4 times the text: 4 times as long if linear, 16 times if quadratic. Below 10 ms for 32,000 characters is no question.
    slow = [kind for kind in ADVERSARIAL if not any((long := seconds(kind, 32_000)) < 0.01 or long < 10 * seconds(kind, 8_000) for _ in range(5))]
    assert not slow


# ---------------------------------------------------------------- hermes
def test_hermes_writes_one_compact_line() -> None:
    assert Hermes().render(CALL) == '<tool_call>{"name": "get_order", "arguments": {"order_id": "o17"}}</tool_call>'
    assert Hermes().render(ToolCall("f", {"x": "é</tool_call>\n"})) == '<tool_call>{"name": "f", "arguments": {"x": "é<\\/tool_call>\\n"}}</tool_call>'
    assert Hermes().stop == ("</tool_call>",)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "get_order", "arguments": {"order_id": "o17"}}\n</tool_call>',
        '<tool_call>{"name": "get_order", "arguments": {"order_id": "o17"}}',
        '<tool_call> {"arguments": {"order_id": "o17"}, "name": "get_order"} }</tool_call>',
        '<think>Is it <tool_call>{"name": "f"}</tool_call>? No.</think>\n<tool_call>{"name": "get_order", "arguments": {"order_id": "o17"}}</tool_call>',
        '<tool_call>\n<tool_call>\n{"name": "get_order", "arguments": {"order_id": "o17"}}\n</tool_call>',
        '<tool_call>{"name": "get_order", "arguments": {"order_id": "o17"}}</tool_call><tool_call>{"name": "f", "argum',
    ],
)
def test_hermes_reads_what_models_write(text: str) -> None:
    assert Hermes().parse(text) == CALL


def test_hermes_reads_a_closing_tag_within_a_string() -> None:
    assert Hermes().parse('<tool_call>{"name": "f", "arguments": {"x": "</tool_call>"}}</tool_call>') == ToolCall("f", {"x": "</tool_call>"})


def test_hermes_takes_a_call_without_arguments() -> None:
    assert Hermes().parse('<tool_call>{"name": "f"}</tool_call>') == ToolCall("f", {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<tool_call>get_order(o17)</tool_call>", "no call follows <tool_call>"),
        ('<tool_call>{"name": "f", "arguments": {"x": "o1}}</tool_call>', "broken"),
        ('<tool_call>{"name": "f", "arguments": {"x": 1', "broken"),
        ('<tool_call>{"arguments": {}}</tool_call>', "has no name"),
        ('<tool_call>{"name": 7, "arguments": {}}</tool_call>', "has no name"),
        ('<think>I will call <tool_call>{"name": "f", "arguments": {}}', "</think>"),
    ],
)
def test_hermes_says_what_is_wrong(text: str, reason: str) -> None:
    action = Hermes().parse(text)
    assert isinstance(action, Malformed)
    assert reason in action.reason
    assert '<tool_call>{"name": "...", "arguments": {...}}</tool_call>' in action.reason


def test_hermes_lists_one_tool_per_line() -> None:
    text = Hermes().instructions([FINISH.schema, FINISH.schema])
    listed = text.split("<tools>\n")[1].split("\n</tools>")[0].splitlines()
    assert listed == ["finish(answer: string, give_up?: boolean) - End the task with the final answer."] * 2


# ---------------------------------------------------------------- react
def test_react_writes_two_lines() -> None:
    assert ReAct().render(CALL) == 'Action: get_order\nAction Input: {"order_id": "o17"}'
    assert ReAct().render(ToolCall("a\nb", {"x": "\nObservation"})) == 'Action: "a\\nb"\nAction Input: {"x": "\\nObservation"}'
    assert ReAct().stop == ("\nObservation",)


@pytest.mark.parametrize(
    "text",
    [
        'Thought: I need the order.\nAction: get_order\nAction Input: {"order_id": "o17"}\nObservation: …',
        'Action:get_order\r\nAction Input:{"order_id": "o17"}',
        '  Action: get_order  \n\n  Action Input: \n{"order_id":\n "o17"} and so on',
        'Thought: Action: is next.\nAction: I do not know.\nThought: now.\nAction: get_order\nAction Input: {"order_id": "o17"}',
    ],
)
def test_react_reads_what_models_write(text: str) -> None:
    assert ReAct().parse(text) == CALL


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Action: get_order", "no call"),
        ("Action Input: {}", "no call"),
        ("Action:  \nAction Input: {}", "names no tool"),
        ("Action: f\nAction Input: o17", "broken"),
        ('Action: f\nAction Input: {"x": 1', "broken"),
        ('Action: f\nAction Input: ["o17"]', "no JSON object"),
        ('Action: "f\nAction Input: {}', "broken"),
    ],
)
def test_react_says_what_is_wrong(text: str, reason: str) -> None:
    action = ReAct().parse(text)
    assert isinstance(action, Malformed)
    assert reason in action.reason
    assert "'Action: <name of a tool>'" in action.reason


# ---------------------------------------------------------------- the other four
WRITTEN = {
    "llama3": '{"name": "get_order", "parameters": {"order_id": "o17"}}',
    "mistral": '[TOOL_CALLS] [{"name": "get_order", "arguments": {"order_id": "o17"}}]',
    "openai": '{"type": "function", "function": {"name": "get_order", "arguments": "{\\"order_id\\": \\"o17\\"}"}}',
    "pythonic": '[get_order(order_id="o17")]',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_the_other_formats_write(name: str) -> None:
    assert make_format(name).render(CALL) == WRITTEN[name]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Llama3(), '<|python_tag|>{"name": "get_order", "parameters": {"order_id": "o17"}}<|eom_id|>'),
        (Llama3(), '{"type": "function", "name": "get_order", "parameters": {"order_id": "o17"}}'),
        (Llama3(), 'I see {x}. {\n "parameters": {"order_id": "o17"}, "name": "get_order"} ; done'),
        (Mistral(), '[TOOL_CALLS][{"name": "get_order", "arguments": {"order_id": "o17"}, "id": "a1b2c3d4e"}]</s>'),
        (Mistral(), '[TOOL_CALLS]get_order[ARGS]{"order_id": "o17"}'),
        (Mistral(), '[TOOL_CALLS]get_order[CALL_ID]abc[ARGS]{"order_id": "o17"}'),
        (OpenAI(), '{"id": "call_1", "type": "function", "function": {"name": "get_order", "arguments": "{\\"order_id\\": \\"o17\\"}"}}'),
        (OpenAI(), '{"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"name": "get_order", "arguments": {"order_id": "o17"}}}]}'),
        (Pythonic(), "[ get_order( order_id = 'o17' , ) ]"),
        (Pythonic(), 'I look [it] up. [get_order(**{"order_id": "\\x6f17"})]'),
        (Pythonic(), "[get_order(order_id='o17')"),
    ],
)
def test_the_other_formats_read_what_models_write(form: CallFormat, text: str) -> None:
    assert form.parse(text) == CALL


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        (Llama3(), '{"parameters": {}}', "has no name"),
        (Llama3(), '{"name": "f", "parameters": [1]}', "no JSON object"),
        (Mistral(), "[TOOL_CALLS] f(x)", "no call follows [TOOL_CALLS]"),
        (Mistral(), '[TOOL_CALLS] [{"name": "f", "arguments": 1}]', "no JSON object"),
        (OpenAI(), '{"type": "function"}', "has no function"),
        (OpenAI(), '{"type": "custom", "function": {"name": "f"}}', "'custom'"),
        (OpenAI(), '{"tool_calls": []}', "no list with a call"),
        (OpenAI(), '{"type": "function", "function": {"name": "f", "arguments": "{} x"}}', "follows the JSON"),
        (OpenAI(), '{"type": "function", "function": {"name": "f", "arguments": "[1]"}}', "no JSON object"),
        (OpenAI(), '{"type": "function", "function": {"name": "f", "arguments": "{"}}', "broken"),
        (Pythonic(), "[get_order('o17')]", "by name"),
        (Pythonic(), "[f(x=__import__('os'))]", "expecting a value"),
        (Pythonic(), "[f(x=1, x=2)]", "stands twice"),
        (Pythonic(), "[f(x=1 y=2)]", "expecting ','"),
        (Pythonic(), "[f(**[1])]", "expecting a dict"),
        (Pythonic(), "[f(x='\\U00110000')]", "no character"),
    ],
)
def test_the_other_formats_say_what_is_wrong(form: CallFormat, text: str, reason: str) -> None:
    action = form.parse(text)
    assert isinstance(action, Malformed)
    assert reason in action.reason
    assert "expected" in action.reason


def test_pythonic_reads_every_kind_of_literal() -> None:
    text = r"""[f(a=True, b=None, c=-1.5e3, d=(1, [2, ()]), e={'k': "v"}, f='it\'s\n\ud83d\ude00\101', g=+7, h=false, i="a\qb", j=.5)]"""
    expected = {"a": True, "b": None, "c": -1500.0, "d": [1, [2, []]], "e": {"k": "v"}, "f": "it's\n😀A", "g": 7, "h": False, "i": "a\\qb", "j": 0.5}
    assert fields(Pythonic().parse(text)) == fields(ToolCall("f", expected))


@each_format
@settings(max_examples=20)
@given(data=st.data(), before=st.sampled_from(["", "I look it up.\n", "One, two: three.\n\n"]))
def test_reasoning_and_further_calls_are_told_apart(form: CallFormat, data: st.DataObject, before: str) -> None:
    drawn = data.draw(st.lists(calls(form), min_size=1, max_size=4))
    reading = read(form, before + "\n".join(map(form.render, drawn)))
    assert reading == Reading(drawn[0], before.strip(), len(drawn) - 1)


def test_further_calls_within_one_list_are_counted() -> None:
    assert read(Pythonic(), "[f(x=1), g(), h(y='z')]").further == 2
    assert read(Mistral(), '[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]').further == 1
    call = '{"type": "function", "function": {"name": "f", "arguments": "{}"}}'
    assert read(OpenAI(), '{"role": "assistant", "tool_calls": [' + f"{call}, {call}, {call}" + "]}").further == 2
    assert read(Llama3(), 'a {"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}; {"name": broken').further == 1


@each_format
def test_without_a_call_all_is_reasoning(form: CallFormat) -> None:
    assert read(form, " The answer is 7. ").reasoning == "The answer is 7."


def test_a_format_that_can_only_parse_is_read_too() -> None:
    class Mine:
        name = "mine"
        stop = ("\n",)

        def instructions(self, tools: Any) -> str:
            return ""

        def render(self, call: ToolCall) -> str:
            return call.name

        def parse(self, text: str, *, prefix: str = "", tools: Any = ()) -> ToolCall | Malformed:
            return ToolCall(text)

    assert read(Mine(), "f") == Reading(ToolCall("f"), "", 0)


# ---------------------------------------------------------------- what they share
def test_make_format() -> None:
    assert isinstance(make_format("hermes"), Hermes)
    assert isinstance(make_format("react"), ReAct)
    mine = Hermes()
    assert make_format(mine) is mine
    for name, make in FORMATS.items():
        assert make().name == name
        assert isinstance(make(), CallFormat)
    with pytest.raises(UnknownName, match="Did you mean 'react'"):
        make_format("reakt")
    with pytest.raises(InvalidArgument, match="got <class"):
        make_format(Hermes)  # type: ignore[arg-type]


def test_decode_begins_where_it_is_told_and_ignores_the_rest() -> None:
    assert decode('xx{"a": [1, 2.5, null]} {', 2) == {"a": [1, 2.5, None]}
    for text in ("", "x", '{"a": }'):
        with pytest.raises(ValueError, match="Expecting"):
            decode(text, 0)


@given(value=JSON)
def test_encode_is_json_on_one_line(value: Any) -> None:
    text = encode(value)
    assert json.loads(text) == value
    assert "\n" not in text


# ---------------------------------------------------------------- signatures
def _schema(properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required), **more}
    return {"type": "function", "function": {"name": "f", "description": "First one. Second one.", "parameters": parameters}}


ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "integer"}}, "required": ["street"]}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (_schema({"order_id": {"type": "string"}, "limit": {"type": "integer"}}, ("order_id",)), "f(order_id: string, limit?: integer)"),
        (_schema({}), "f()"),
        ({"name": "bare"}, "bare()"),
        (_schema({"x": {"enum": ["a", 1, None]}}, ("x",)), 'f(x: "a"|1|null)'),
        (_schema({"x": {"const": "é"}}), 'f(x?: "é")'),
        (_schema({"x": {"anyOf": [{"type": "string"}, {"type": "null"}]}}), "f(x?: string|null)"),
        (_schema({"x": {"type": ["string", "null"]}}), "f(x?: string|null)"),
        (_schema({"x": {"type": "array", "items": {"type": "integer"}}}), "f(x?: integer[])"),
        (_schema({"x": {"type": "array", "items": {"type": ["integer", "null"]}}}), "f(x?: (integer|null)[])"),
        (_schema({"x": {"type": "array"}}), "f(x?: any[])"),
        (_schema({"x": ADDRESS}), "f(x?: {street: string, zip?: integer})"),
        (_schema({"x": {"$ref": "#/$defs/Address"}}, **{"$defs": {"Address": ADDRESS}}), "f(x?: {street: string, zip?: integer})"),
        (_schema({"x": {"type": "object"}, "y": {}, "z": True}), "f(x?: object, y?: any, z?: any)"),
        (_schema({"x": {"$ref": "#/$defs/Gone"}}), "f(x?: Gone)"),
    ],
)
def test_signature(schema: dict[str, Any], expected: str) -> None:
    assert signature(schema) == expected


def test_the_signature_of_a_schema_that_contains_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    text = signature(_schema({"x": {"$ref": "#/$defs/Node"}}, **{"$defs": {"Node": node}}))
    assert text.startswith("f(x?: {next?: ")
    assert len(text) < 100


def test_compact_is_one_tool_per_line_with_the_first_sentence() -> None:
    tools = [_schema({}), {"name": "g", "description": "Version 2.0 of\n  g. More."}, {"name": "h"}]
    assert compact(tools, descriptions=True) == "f() - First one.\ng() - Version 2.0 of g.\nh()"
    assert compact(tools, descriptions=False) == "f()\ng()\nh()"
    assert compact([], descriptions=True) == ""
