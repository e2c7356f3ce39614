"""What calls and texts the tests of call formats draw: every kind of JSON, with the marks of all forms inside of strings."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from steptool_env import CallFormat, ToolCall

__all__ = ["CALL", "JSON", "MARKS", "NASTY", "TEXT", "calls"]

CALL = ToolCall("get_order", {"order_id": "o17"})
MARKS = [
    *("</tool_call>", "<tool_call>", "<function=f>", "</function>", "<parameter=x>", "\n</parameter>", "<arg_key>", "</arg_value>", "<|observation|>"),
    *("<|channel|>commentary to=functions.f <|message|>{}", "<|channel|>analysis<|message|>", "<|call|>", "<|end|>", '<|"|>', "<tool_call|>", "<escape>"),
    *("<|tool_call>call:f{", "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}", "<｜tool▁calls▁end｜>", "<|tool_call_end|>", "<|tool_calls_section_end|>"),
    *('<invoke name="f">', "</invoke>", '</parameter><parameter name="y">', "</minimax:tool_call>", "[TOOL_CALLS]", "[ARGS]{}", "</s>"),
    *("<function_calls>f(x=1)", "</function_calls>", "<|tool_call|>[{", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "```\n", "[f(x=1)]"),
    *("<think>", "</think>", "[THINK]", "<|channel>thought", "<channel|>", '{"name": "f", "arguments": {}}'),
]
"""Marks of all forms, within one of which they mean something."""
NASTY = [
    *("\nObservation: x", "\nAction: f\nAction Input: {}", '"', "\\", "{", "}", "é😀\u2028", "\0", "<\\/tool_call>"),
    *("5", "true", "None", '"q"', " ", "\n", *MARKS),
]
TEXT = st.text(max_size=20) | st.sampled_from(NASTY) | st.lists(st.sampled_from(NASTY) | st.text(max_size=3), max_size=4).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)

_NAMES = st.from_regex(r"[A-Za-zé_][\w.\-/:]{0,15}", fullmatch=True)
_KEYS = st.from_regex(r"[A-Za-zé_]([\w.\- :]{0,10}\w)?", fullmatch=True)
_ANY: Any = st.builds(ToolCall, TEXT.filter(bool), st.dictionaries(TEXT, JSON, max_size=4))
_NAMED: Any = st.builds(ToolCall, _NAMES, st.dictionaries(TEXT, JSON, max_size=4))
_PLAIN: Any = st.builds(ToolCall, _NAMES, st.dictionaries(_KEYS, JSON, max_size=4))
_STRATEGIES = {
    **dict.fromkeys(("deepseek", "gemma", "harmony", "kimi", "mistral-v11"), _NAMED),  # the name stands between marks, without quotes
    **dict.fromkeys(("glm", "minimax", "qwen3-coder"), _PLAIN),  # and so do the names of the arguments
}


def calls(form: CallFormat) -> st.SearchStrategy[ToolCall]:
    """Return a strategy for calls that a form can write: any names, unless it writes them without quotes."""
    strategy: st.SearchStrategy[ToolCall] = _STRATEGIES.get(form.name, _ANY)
    return strategy
