"""Texts on which a careless pattern, or a second try at every tag, takes quadratic time; for tests of call formats."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ADVERSARIAL"]

ADVERSARIAL: dict[str, Callable[[int], str]] = {
    "open tags": lambda n: "<tool_call>" * (n // 11),
    "tags and braces": lambda n: "<tool_call>{" * (n // 12),
    "tags and open strings": lambda n: '<tool_call>{"' * (n // 13),
    "spaces after tags": lambda n: ("<tool_call>" + " " * 1000) * (n // 1011),
    "one tag, then spaces": lambda n: "<tool_call>" + " " * n,
    "open string": lambda n: '<tool_call>{"name": "' + "a" * n,
    "escapes": lambda n: '<tool_call>{"name": "' + "\\\\" * (n // 2),
    "newlines in broken JSON": lambda n: "<tool_call>{" + "\n" * n + "x",
    "brackets": lambda n: '<tool_call>{"name": "f", "arguments": ' + "[" * n,
    "digits": lambda n: '<tool_call>{"name": ' + "9" * n,
    "long list": lambda n: '<tool_call>{"name": [' + "1," * (n // 2),
    "open thoughts": lambda n: "<think>" * (n // 7),
    "actions": lambda n: "Action: x\n" * (n // 10),
    "empty actions": lambda n: "Action:\n" * (n // 8),
    "an action, then empty lines": lambda n: "Action: x\n" + "\n" * n,
    "actions and empty lines": lambda n: ("Action: x" + "\n" * 1000) * (n // 1009),
    "an action of spaces": lambda n: "Action: x" + " x" * (n // 2),
    "indented": lambda n: " " * n + "Action",
    "inputs": lambda n: "Action: x\nAction Input:" + " " * n,
    "objects": lambda n: '{"name": ' * (n // 9),
    "keys of calls": lambda n: '{"type": {"function": ' * (n // 22),
    "an open object": lambda n: '{"name": "f", "parameters": {"x": "' + "a" * n,
    "lists of calls": lambda n: "[TOOL_CALLS] [{" * (n // 15),
    "marks": lambda n: "[TOOL_CALLS]" * (n // 12),
    "marks and names": lambda n: "[TOOL_CALLS]f[ARGS]" * (n // 19),
    "a mark, then a long name": lambda n: "[TOOL_CALLS]" + "f" * n,
    "parentheses": lambda n: "[f(" * (n // 3),
    "a long name": lambda n: "[" + "a." * (n // 2),
    "bracketed names": lambda n: "[aaaaaaaaa" * (n // 10),
    "lists in a call": lambda n: "[f(x=" + "[" * n,
    "tuples in a call": lambda n: "[f(x=" + "(" * n,
    "an open string in a call": lambda n: "[f(x='" + "\\'" * (n // 2),
    "escapes in a call": lambda n: "[f(x='" + "\\u0041" * (n // 6) + "')]",
    "surrogates in a call": lambda n: "[f(x='" + "\\ud83d\\ude00" * (n // 12) + "')]",
    "many arguments": lambda n: "[f(" + ",".join(f"a{i}=1" for i in range(n // 8)),
    "many dicts": lambda n: "[f(" + ",".join(f"**{{'a{i}': 1}}" for i in range(n // 16)),
    "digits in a call": lambda n: "[f(x=" + "9" * n,
    "globals": lambda n: '[globals()["' * (n // 12),
    "many calls": lambda n: '{"name": "f", "parameters": {}}' * (n // 32) + "[f()]" * 10 + '<tool_call>{"name": "f"}' * (n // 24),
    "calls of one message": lambda n: '{"tool_calls": [' + ",".join(['{"function": {"name": "f"}}'] * (n // 27)) + "]}",
    "a list of many calls": lambda n: "[TOOL_CALLS] [" + ",".join(['{"name": "f"}'] * (n // 13)) + "][" + ",".join(["f()"] * (n // 4)) + "]",
    "prose": lambda n: "lorem ipsum " * (n // 12),
    "surrogates": lambda n: "\ud800" * n,
}
"""Name -> function from a length in characters to a text of about that length."""
