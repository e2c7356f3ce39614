"""Reading, once, for all forms: reasoning is cut off, slips are forgiven and counted, and data is no call."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from calls import CALL
from project import CALL_CASES

from steptool_env import FORMATS, REPAIRS, CallFormat, Malformed, Tool, ToolCall, Toolkit, check_tools, make_format, read
from steptool_env.errors import InvalidArgument
from steptool_env.formats import left_open

DRAFT = ToolCall("cancel_order", {"order_id": "o1"})
each_format = pytest.mark.parametrize("form", [make() for make in FORMATS.values()], ids=list(FORMATS))
BLOCKS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<scratch_pad>", "</scratch_pad>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
    ("<seed:think>", "</seed:think>"),
]
each_block = pytest.mark.parametrize(("opening", "end"), BLOCKS, ids=[opening.strip() for opening, _ in BLOCKS])

REFUSED = {
    ("hermes", "think: never closed"): "the reasoning has no end",  # what stands in reasoning may be a draft, and is never executed
    ("pythonic", "bad sibling first"): "the call is broken",  # the second call of a list in place of the first would be a guess
}
"""Cases that other readers read and this one refuses, each with its reason."""


def function(name: str, **properties: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object", "properties": properties}}}


# ---------------------------------------------------------------- reasoning
@each_format
@each_block
@pytest.mark.parametrize("before", ["", "Let me see. "])
def test_a_draft_within_reasoning_is_not_executed(form: CallFormat, opening: str, end: str, before: str) -> None:
    draft, call = form.render(DRAFT), form.render(CALL)
    reading = read(form, f"{before}{opening}Maybe\n{draft}\nno.\n{end}\n{call}")
    assert (reading.action, reading.further, reading.repaired) == (CALL, 0, ())
    assert reading.reasoning.startswith(before.strip() or "Maybe")
    assert opening not in reading.reasoning
    assert read(form, f"{opening}{draft}{end}\n{opening}{draft}{end}\n{call}").action == CALL
    assert isinstance(form.parse(f"{opening}Maybe\n{draft}\n{end}\nThe answer is 7."), Malformed)


@each_format
@each_block
def test_reasoning_that_is_never_closed_holds_no_call(form: CallFormat, opening: str, end: str) -> None:
    for text, prefix in ((f"{opening}Maybe\n{form.render(DRAFT)}", ""), (f"Maybe\n{form.render(DRAFT)}", f"<|im_start|>assistant\n{opening}\n")):
        action = form.parse(text, prefix=prefix)
        assert isinstance(action, Malformed)
        assert "the reasoning has no end" in action.reason
        assert "expected" in action.reason


@each_format
@each_block
def test_reasoning_that_the_prompt_opened_is_cut_off(form: CallFormat, opening: str, end: str) -> None:
    text = f"Maybe\n{form.render(DRAFT)}\nno.\n{end}\n{form.render(CALL)}"
    assert form.parse(text, prefix=f"<|im_start|>assistant\n{opening}\n") == CALL
    assert read(form, text, prefix=opening).reasoning.startswith("Maybe")


@each_format
@pytest.mark.parametrize("end", ["</think>", "</thinking>", "[/THINK]", "<channel|>"])
def test_an_end_without_a_beginning_says_that_all_before_it_was_reasoning(form: CallFormat, end: str) -> None:
    assert form.parse(f"Maybe\n{form.render(DRAFT)}\nno.\n{end}\n{form.render(CALL)}") == CALL
    assert isinstance(form.parse(f"{form.render(DRAFT)}\n{end}\nThe answer is 7."), Malformed)


@each_format
def test_the_shortcut_for_a_plain_call_reads_what_the_walk_reads(form: CallFormat) -> None:
    marks = [mark for block in BLOCKS for mark in block] + ["<think>"]
    call, draft = form.render(CALL), form.render(ToolCall("cancel_order", {"order_id": "</think>", "why": "[THINK]"}))
    pieces = [call, call, draft, *form.stop, *marks, " ", "\n", "Let me see.", "}", "<", call[: len(call) // 2], call[len(call) // 2 :]]
    draw = random.Random(form.name)
    texts = [before + body + after for body in (call, draft) for before in ("", " ", *marks) for after in ("", *form.stop, *marks)]
    texts += ["".join(draw.choices(pieces, k=draw.randint(1, 5))) for _ in range(300)]
    for text in texts:  # behind a prompt that leaves nothing open there is no shortcut
        assert read(form, text) == read(form, text, prefix="Go."), text


@pytest.mark.parametrize(
    ("prefix", "mark"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<think>Okay, ", "<think>"),
        ("user: <think> <|im_end|><|im_start|>assistant\n", ""),
        ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
        ("", ""),
    ],
)
def test_what_a_prompt_leaves_open(prefix: str, mark: str) -> None:
    assert left_open(prefix) == mark


def test_marks_within_a_call_are_its_own() -> None:
    call = ToolCall("add_note", {"text": "a</think>b <think> c"})
    raw = '<tool_call>{"name": "add_note", "arguments": {"text": "a</think>b <think> c"}}</tool_call>'
    assert make_format("hermes").parse(raw) == call
    assert make_format("qwen3-coder").parse("<function=add_note>\n<parameter=text>\na</think>b <think> c\n</parameter>\n</function>") == call


# ---------------------------------------------------------------- what models write
@pytest.mark.skipif(not CALL_CASES.is_file(), reason=f"the cases of other readers are not in {CALL_CASES} (set STEPTOOL_DATA)")
def test_replies_are_read_as_other_readers_read_them() -> None:
    refused = set()
    for line in CALL_CASES.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        reading = read(make_format(case["format"]), case["text"])
        assert set(reading.repaired) <= REPAIRS.keys()
        if case["call"] is None:
            assert isinstance(reading.action, Malformed), case
        elif isinstance(reading.action, Malformed):
            assert REFUSED[case["format"], case["family"]] in reading.action.reason, case
            refused.add((case["format"], case["family"]))
        else:
            assert repr(reading.action) == repr(ToolCall(*case["call"])), case
    assert refused == REFUSED.keys()


NATIVE = {
    "qwen3-coder": ["<tool_call>\n<function=get_order>\n<parameter=order_id>\no17\n</parameter>\n</function>\n</tool_call>"],
    "harmony": [
        '<|channel|>commentary to=functions.get_order <|constrain|>json<|message|>{"order_id": "o17"}<|call|>',
        ' to=functions.get_order<|channel|>commentary json<|message|>{"order_id": "o17"}',
        '<|channel|>analysis<|message|>So.<|end|><|start|>assistant to=functions.get_order<|channel|>commentary json<|message|>{"order_id": "o17"}<|call|>',
        '<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.get_order<|message|>{"order_id": "o17"}',
    ],
    "glm": [
        "<tool_call>get_order\n<arg_key>order_id</arg_key>\n<arg_value>o17</arg_value>\n</tool_call>",
        "<tool_call>get_order<arg_key>order_id</arg_key><arg_value>o17</arg_value></tool_call>",
    ],
    "gemma": [
        '<|tool_call>call:get_order{order_id:<|"|>o17<|"|>}<tool_call|>',
        "<start_function_call>call:get_order{order_id:<escape>o17<escape>}<end_function_call>",
    ],
    "deepseek": [
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_order\n```json\n{"order_id": "o17"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_order<｜tool▁sep｜>{"order_id": "o17"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ],
    "kimi": [
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_order:0<|tool_call_argument_begin|>"
        '{"order_id": "o17"}<|tool_call_end|><|tool_calls_section_end|>'
    ],
    "minimax": [
        '<minimax:tool_call>\n<invoke name="get_order">\n<parameter name="order_id">o17</parameter>\n</invoke>\n</minimax:tool_call>',
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_order">\n<｜DSML｜parameter name="order_id" string="true">o17</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>",
    ],
    "mistral-v11": ['[TOOL_CALLS]get_order[ARGS]{"order_id": "o17"}', '[TOOL_CALLS]get_order[CALL_ID]abcdefgh1[ARGS]{"order_id": "o17"}'],
    "xlam": ['[{"name": "get_order", "arguments": {"order_id": "o17"}}]'],
    "olmo3": ['<function_calls>get_order(order_id="o17")</function_calls>'],
    "granite": ['<|tool_call|>[{"name": "get_order", "arguments": {"order_id": "o17"}}]'],
    "pythonic": ['<|tool_call_start|>[get_order(order_id="o17")]<|tool_call_end|>'],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in NATIVE.items() for text in texts])
def test_every_form_reads_what_its_models_write(name: str, text: str) -> None:
    reading = read(make_format(name), text)
    assert (reading.action, reading.repaired) == (CALL, ())
    assert read(make_format(name), text, strict=True).action == CALL


def test_the_forms_of_texts_without_quotes_are_written_as_their_templates_write_them() -> None:
    call = ToolCall("f", {"a": "x y", "b": 1, "c": ["u"], "d": "5"})
    written = make_format("qwen3-coder").render(ToolCall("f", {"a": "x y"}))
    assert written == "<tool_call>\n<function=f>\n<parameter=a>\nx y\n</parameter>\n</function>\n</tool_call>"
    assert make_format("glm").render(ToolCall("f")) == "<tool_call>f\n</tool_call>"
    assert make_format("gemma").render(call) == '<|tool_call>call:f{a:<|"|>x y<|"|>,b:1,c:[<|"|>u<|"|>],d:<|"|>5<|"|>}<tool_call|>'
    assert '<parameter name="d">"5"</parameter>' in make_format("minimax").render(call)


# ---------------------------------------------------------------- what is forgiven, and counted
H = '<tool_call>\n{"name": "get_order", "arguments": %s}\n</tool_call>'
SLIPS = [
    ("hermes", H % '{"order_id": "o17",}', "trailing comma"),
    ("hermes", H % "{'order_id': 'o17'}", "Python literal"),
    ("hermes", H % '"{\\"order_id\\": \\"o17\\"}"', "arguments as a string"),
    ("hermes", H % '{"order_id": "o17"}, "id": "c1"', "extra key"),
    ("hermes", H % '{"order_id": "o17"}}', "extra brace"),
    ("hermes", H.replace("}\n<", "\n<") % '{"order_id": "o17"}', "missing brace"),
    ("hermes", H % '{order_id: "o17"}', "key without quotes"),
    ("hermes", H % '{"order_id": "o17"  # the order\n}', "comment"),
    ("hermes", H % '{"order_id": "\\x6f17"}', "raw escape"),
    ("hermes", H.replace("arguments", "parameters") % '{"order_id": "o17"}', "aliased key"),
    ("hermes", '<tool_call>[{"name": "get_order", "arguments": {"order_id": "o17"}}]</tool_call>', "list"),
    ("hermes", '{"name": "get_order", "arguments": {"order_id": "o17"}}', "no tag"),
    ("llama3", '```json\n{"name": "get_order", "parameters": {"order_id": "o17"}}\n```', "fence"),
    ("kimi", '<|tool_call_begin|>functions.get_order:0<|tool_call_argument_begin|>{"order_id": "o17",}<|tool_call_end|>', "trailing comma"),
    ("deepseek", "<｜tool▁call▁begin｜>get_order<｜tool▁sep｜>{'order_id': 'o17'}<｜tool▁call▁end｜>", "Python literal"),
    ("harmony", '<|channel|>commentary to=functions.get_order json<|message|>{"order_id": "o17"<|call|>', "missing brace"),
    ("gemma", "<|tool_call>call:get_order{order_id:o17}<tool_call|>", "text without quotes"),
    ("gemma", 'call:get_order{order_id:<|"|>o17<|"|>}', "no tag"),
    ("granite", '<|tool_call|>{"name": "get_order", "arguments": {"order_id": "o17"}}', "list"),
    ("pythonic", 'get_order(order_id="o17")', "no brackets"),
    ("pythonic", '[get_order(order_id=r"o17")]', ""),
    ("pythonic", '[get_order(order_id="""o17""")]', ""),
    ("react", '**Action:** get_order\n**Action Input:** {"order_id": "o17"}', "label"),
    ("react", '1. Action: get_order\n2. Action Input: {"order_id": "o17"}', "label"),
    ("react", 'Action: `get_order`\nAction Input: {"order_id": "o17"}', "decorated name"),
]


@pytest.mark.parametrize(("name", "text", "slip"), SLIPS)
def test_a_slip_is_forgiven_and_named(name: str, text: str, slip: str) -> None:
    form = make_format(name)
    reading = read(form, text)
    assert reading.action == CALL
    assert reading.repaired == ((slip,) if slip else ())
    assert isinstance(reading.action, ToolCall)
    assert reading.action.repaired == reading.repaired
    strict = read(form, text, strict=True)
    assert isinstance(strict.action, Malformed if slip else ToolCall)
    if isinstance(strict.action, Malformed):
        assert slip in strict.action.reason


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llama3", 'I found {"name": "Oslo"} in the list.'),
        ("hermes", 'I found {"name": "Oslo"} in the list.'),
        ("llama3", 'The record is {"result": {"name": "Ann", "parameters": {"age": 3}}}.'),
        ("llama3", '{"name": "find_book", "description": "Finds.", "parameters": {"type": "object", "properties": {"title": {"type": "string"}}}}'),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"x": 1'),
        ("hermes", H % '{"n": 007}'),
        ("qwen3-coder", "<tool_call>\n<function=f>\n<parameter=x>\n1"),
        ("qwen3-coder", "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n"),
        ("glm", "I will use <tool_call> now.\n"),
        ("glm", "<tool_call>find_bo"),
        ("pythonic", "I could call get_order(order_id='o17') for that."),
        ("pythonic", '[find_book(title="Du'),
        ("pythonic", "[f(x=__import__('os'))]"),
        ("gemma", "<|tool_call>call:f{x:1"),
        ("harmony", "<|channel|>commentary to=functions.f<|message|>"),
        ("harmony", "<|start|>functions.f to=assistant<|channel|>commentary<|message|>{}"),
    ],
)
def test_what_is_no_call_is_none(name: str, text: str) -> None:
    assert isinstance(make_format(name).parse(text), Malformed)


def test_a_name_on_offer_decides_what_is_a_call() -> None:
    text = 'I will do it: {"name": "list_all"} and wait.'
    assert isinstance(make_format("llama3").parse(text), Malformed)
    assert make_format("llama3").parse(text, tools=[function("list_all")]) == ToolCall("list_all")
    assert isinstance(make_format("llama3").parse(text, tools=[function("other")]), Malformed)
    assert isinstance(make_format("pythonic").parse("I go on.\nlist_all()"), Malformed)
    assert make_format("pythonic").parse("I go on.\nlist_all()", tools=[function("list_all")]) == ToolCall("list_all")


@pytest.mark.parametrize("name", ["qwen3-coder", "glm", "minimax"])
def test_the_types_of_the_tools_decide_what_stands_without_quotes(name: str) -> None:
    form = make_format(name)
    written = form.render(ToolCall("f", {"a": 42, "b": 42, "c": True, "d": None, "e": "x", "g": [1], "h": 3, "i": 2})).replace("[1]", "['u', True]")
    texts, either = {"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}
    tools = [function("f", a=texts, b={"type": "integer"}, c={"type": "boolean"}, d=either, e=either, g={"type": "array"}, h={"enum": ["3", "4"]})]
    found = form.parse(written, tools=tools)
    assert repr(found) == repr(ToolCall("f", {"a": "42", "b": 42, "c": True, "d": None, "e": "x", "g": ["u", True], "h": "3", "i": 2}))
    for value in ("42", "true", '"quoted"', "</parameter>", "a </arg_value> b", " x "):  # what had to be written in quotes is read without them
        assert form.parse(form.render(ToolCall("f", {"a": value})), tools=tools) == ToolCall("f", {"a": value})


# ---------------------------------------------------------------- names
def test_a_name_that_a_form_cannot_write_is_said_before_the_first_call() -> None:
    spaced = Tool("get order", "", {"type": "object", "properties": {"order_id": {"type": "string"}}}, lambda order_id="": order_id)
    schemas = [each.schema for each in Toolkit([spaced]).values()]
    check_tools(make_format("hermes"), schemas)
    check_tools(make_format("pythonic"), schemas)
    with pytest.raises(InvalidArgument, match="'glm' cannot write the tool 'get order': rename it, or choose"):
        check_tools(make_format("glm"), schemas)
    with pytest.raises(InvalidArgument, match="cannot write the argument 'a<b' of the tool 'f'"):
        check_tools(make_format("glm"), [function("f", **{"a<b": {"type": "string"}})])
    for form in FORMATS:
        check_tools(make_format(form), [function("get_order", order_id={}), function("a-b.c/d")])
