"""Answers of chat servers, model servers and judges that no server should give."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["CHAT", "COMPLETIONS", "GRADES"]

Make = Callable[[], bytes]
HUGE = "1" + "0" * 400


def _chat(message: str, beside: str = "") -> bytes:
    return f'{{"choices": [{{"message": {message}{beside}}}]}}'.encode("utf-8", "surrogatepass")


def _call(arguments: str, name: str = '"get_order"') -> bytes:
    return _chat(f'{{"content": null, "tool_calls": [{{"id": "x", "type": "function", "function": {{"name": {name}, "arguments": {arguments}}}}}]}}')


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def _deep_text(depth: int) -> str:
    """A call in the form of several formats at once, nested so deep."""
    call = f'{{"name": "a", "arguments": {{"x": {_nested(depth)}}}}}'
    return json.dumps(
        f"<tool_call>\n{call}\n</tool_call>[TOOL_CALLS] [{call}]<|python_tag|>{call} Action: a\nAction Input: {_nested(depth)}\n[a(x={_nested(depth)})]"
    )


CHAT: dict[str, Make] = {
    **{f"arguments {depth} levels deep": lambda depth=depth: _call(json.dumps(f'{{"x": {_nested(depth)}}}')) for depth in (70, 700, 2000, 100_000)},  # type: ignore[misc]
    **{f"an object of arguments {depth} levels deep": lambda depth=depth: _call(f'{{"x": {_nested(depth)}}}') for depth in (70, 700, 2000, 100_000)},  # type: ignore[misc]
    **{f"a text {depth} levels deep": lambda depth=depth: _chat(f'{{"content": {_deep_text(depth)}}}') for depth in (70, 700, 2000, 100_000)},  # type: ignore[misc]
    "400 nested tool calls around 4 MB": lambda: _chat('{"tool_calls": ' + "[" * 400 + json.dumps("x" * 4_000_000) + "]" * 400 + "}"),
    "100,000 tool calls": lambda: _chat('{"tool_calls": [' + ",".join(["1"] * 100_000) + "]}"),
    "numbers of 400 digits": lambda: _call(json.dumps(f'{{"x": {HUGE}, "y": {HUGE}.0, "z": 1e400, "w": -1e400}}')),
    "numbers of 5,000 digits": lambda: _call(json.dumps('{"x": ' + "9" * 5000 + "}")),
    "an object with such a number": lambda: _call('{"x": ' + "9" * 5000 + "}"),
    "NaN": lambda: _call('{"x": NaN, "y": Infinity}'),
    "a name of 1 MB": lambda: _call('"{}"', json.dumps("a" * 1_000_000)),
    "a name that is a list": lambda: _call('"{}"', "[1, {}]"),
    "a name of nothing": lambda: _call('"{}"', "null"),
    "arguments of nothing": lambda: _call("null"),
    "arguments that are a list": lambda: _call("[1]"),
    "lone surrogates": lambda: _call('"{\\"x\\": \\"\\\\ud800\\"}"', '"\\ud800"'),
    "control characters": lambda: _chat(json.dumps({"content": "\x00\x1b[2J\x07<tool_call>\x1b]0;x\x07"})),
    "no choices": lambda: b'{"choices": []}',
    "choices of nothing": lambda: b'{"choices": null}',
    "a message of nothing": lambda: b'{"choices": [{"message": null}]}',
    "a message that is a list": lambda: b'{"choices": [{"message": []}]}',
    "a content that is a list": lambda: _chat('{"content": [{"type": "text", "text": "a"}]}'),
    "a content of 7 MB": lambda: _chat(json.dumps({"content": "<tool_call>" + "{" * 7_000_000})),
    "tool calls that are a text": lambda: _chat('{"tool_calls": "a"}'),
    "tool calls that are a number": lambda: _chat('{"tool_calls": 5}'),
    "tool calls that are an object": lambda: _chat('{"tool_calls": {"a": 1}}'),
    "not JSON": lambda: b"<html>",
    "not UTF-8": lambda: b"\xff\xfe{}",
    "a number alone": lambda: HUGE.encode(),
    "nesting alone": lambda: _nested(100_000).encode(),
    **{
        f"log-probabilities: {name}": lambda value=value: _chat('{"content": "a"}', f', "token_ids": [1], "logprobs": {{"content": [{{"logprob": {value}}}]}}')  # type: ignore[misc]
        for name, value in {
            "NaN": "NaN",
            "infinite": "-Infinity",
            "positive": "5.0",
            "a text": '"a"',
            "huge": f"-{HUGE}",
            "nothing": "null",
            "true": "true",
        }.items()
    },
    **{
        f"token ids: {name}": lambda value=value: _chat('{"content": "a"}', f', "token_ids": [{value}], "logprobs": {{"content": [{{"logprob": -1.0}}]}}')  # type: ignore[misc]
        for name, value in {"negative": "-1", "infinite": "Infinity", "a fraction": "0.5", "huge": HUGE, "a list": "[]"}.items()
    },
}
"""Name -> the body of an answer to ``/v1/chat/completions``."""


def _completion(ids: str, logprobs: str) -> bytes:
    return f'{{"choices": [{{"text": "", "token_ids": {ids}, "logprobs": {{"token_logprobs": {logprobs}}}}}]}}'.encode()


COMPLETIONS: dict[str, Make] = {
    **{
        f"log-probability {name}": lambda value=value: _completion("[5, 6]", f"[-0.5, {value}]")  # type: ignore[misc]
        for name, value in {
            "NaN": "NaN",
            "infinite": "Infinity",
            "minus infinite": "-Infinity",
            "positive": "0.5",
            "a text": '"a"',
            "nothing": "null",
            "true": "true",
            "a list": "[]",
            "huge": f"-{HUGE}",
            "beyond floats": "-1e400",
        }.items()
    },
    **{
        f"token id {name}": lambda value=value: _completion(f"[5, {value}]", "[-0.5, -0.5]")  # type: ignore[misc]
        for name, value in {
            "negative": "-1",
            "outside of the vocabulary": "1000000",
            "huge": HUGE,
            "a fraction": "5.5",
            "a text": '"5"',
            "true": "true",
            "NaN": "NaN",
            "nothing": "null",
            "a list": "[5]",
            "infinite": "Infinity",
        }.items()
    },
    "more tokens than asked": lambda: _completion(json.dumps([5] * 50), json.dumps([-0.5] * 50)),
    "more log-probabilities": lambda: _completion("[5]", "[-0.5, -0.5]"),
    "no tokens": lambda: _completion("[]", "[]"),
    "texts instead of lists": lambda: _completion('"ab"', '"ab"'),
    "no choices": lambda: b'{"choices": []}',
    "a list": lambda: b"[]",
    "a text": lambda: b"hello",
    "nesting": lambda: _nested(100_000).encode(),
}
"""Name -> the body of an answer to ``/v1/completions``."""


def _grades(succeeded: Any = "[1, 1, 1]", contributions: Any = "[5, 5, 5]", status: str = '"Solved"') -> bytes:
    text = f'{{"succeed_tool_calling": {succeeded}, "contribution_to_final_answer": {contributions}, "final_answer_status": {status}}}'
    function = {"name": "grade_steps", "arguments": text}
    return json.dumps({"choices": [{"message": {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}}]}).encode()


_NUMBERS = {
    "NaN": "NaN",
    "infinite": "Infinity",
    "of 400 digits": HUGE,
    "of 5,000 digits": "9" * 5000,
    "beyond floats": "1e400",
    "negative": "-5",
    "a text": '"5"',
}
GRADES: dict[str, Make] = {
    **{f"a contribution {name}": lambda value=value: _grades(contributions=f"[{value}, {value}, {value}]") for name, value in _NUMBERS.items()},  # type: ignore[misc]
    **{f"a contribution alone {name}": lambda value=value: _grades("[1]", f"[{value}]") for name, value in _NUMBERS.items()},  # type: ignore[misc]
    **{f"a success {name}": lambda value=value: _grades(f"[{value}]", "[5]") for name, value in _NUMBERS.items()},  # type: ignore[misc]
    "a status of 1 MB": lambda: _grades(status=json.dumps("x" * 1_000_000)),
    "a status that is a list": lambda: _grades(status=_nested(500)),
    "nested grades": lambda: _grades(_nested(2000), _nested(2000)),
    "a million grades": lambda: _grades(json.dumps([1] * 1_000_000), json.dumps([1] * 1_000_000)),
    "no grades": lambda: _grades("null", "null", "null"),
    "not JSON": lambda: b"<html>",
}
"""Name -> the body of a judge's answer."""
