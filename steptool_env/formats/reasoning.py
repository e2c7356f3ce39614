"""Where reasoning begins and ends in what a model writes: the marks of all families, in one list."""

from __future__ import annotations

import re

__all__ = ["MARK", "after", "ending", "is_end", "left_open", "still_open", "without_marks"]

_TAGS = ("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratch_pad", "scratchpad", "seed:think", "longcat_think", "mm:think")
"""Qwen, DeepSeek, GLM and most others; Claude-like data; Hermes 3; Seed-OSS; LongCat; MiniMax."""
_OTHERS = {
    "[THINK]": "[/THINK]",  # Magistral
    "<|channel>thought": "<channel|>",  # Gemma 4
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
    "<|begin_of_thought|>": "<|end_of_thought|>",  # OpenThinker
    "◁think▷": "◁/think▷",  # Kimi-VL
}
_ANALYSIS = r"<\|channel\|>\s*analysis\s*<\|message\|>"  # gpt-oss; with a recipient in the header it is a call
_AFTER_ANALYSIS = re.compile(r"<\|end\|>(?:<\|start\|>assistant(?! to=))?|(?=<\|start\|>)")


_TAG = f"(?:{'|'.join(_TAGS)})"
# Written so that the search stops only at the few characters with which marks begin: it is made for every reply.
MARK = re.compile(
    rf"<(?:/?{_TAG}>|channel\|>|\|(?:channel>thought|channel\|>\s*analysis\s*<\|message\|>|(?:START|END)_THINKING\|>|(?:begin|end)_of_thought\|>))"
    r"|\[/?THINK\]|◁/?think▷"
)
"""Finds the next mark of reasoning, of either kind."""
_CLOSING = {**{f"<{tag}>": f"</{tag}>" for tag in _TAGS}, **_OTHERS}
_ENDS = frozenset(_CLOSING.values())
_MARK_NEXT = re.compile(rf"\s*({MARK.pattern})")
_LEFT_OPEN = re.compile(rf"(<{_TAG}>|{'|'.join(map(re.escape, _OTHERS))}|{_ANALYSIS})[^<\[◁]*+\Z")


def is_end(mark: re.Match[str]) -> bool:
    """Return whether a mark ends reasoning."""
    return mark[0] in _ENDS


def after(mark: str, text: str, begin: int) -> int:
    """Return the position behind the end of the reasoning that this mark begins; -1 if it has none."""
    close = _CLOSING.get(mark)
    if close is None:
        found = _AFTER_ANALYSIS.search(text, begin)
        return found.end() if found is not None else -1
    place = text.find(close, begin)
    return place + len(close) if place >= 0 else -1


def left_open(prefix: str) -> str:
    """Return the mark of the reasoning that a prompt leaves open at its end, such as ``<think>`` and a line break; ``""`` if there is none."""
    found = _LEFT_OPEN.search(prefix, max(0, len(prefix) - 1000))
    return found[1] if found is not None else ""


def still_open(text: str, prefix: str = "") -> str:
    """Return the mark of the reasoning that a reply is within at its end; ``""`` if it is not, or no longer.

    It was begun by the prompt, at the beginning of the reply, or directly behind other reasoning. Marks behind anything else, such as
    those in the arguments of a call, begin nothing.

    >>> still_open("<think>what is"), still_open("what is", "<think>\\n"), still_open("<think>a</think>f(")
    ('<think>', '<think>', '')

    Args:
        text: The reply so far.
        prefix: What the prompt wrote behind the last message.
    """
    mark, place = left_open(prefix), 0
    while True:
        if mark:
            place = after(mark, text, place)
            if place < 0:
                return mark
        found = _MARK_NEXT.match(text, place)
        if found is None or found[1] in _ENDS:
            return ""
        mark, place = found[1], found.end()


def ending(mark: str) -> str:
    """Return what ends the reasoning that a mark begins, and leads on to the answer."""
    close = _CLOSING.get(mark)
    return f"\n{close}\n\n" if close is not None else "<|end|><|start|>assistant"


def without_marks(text: str) -> str:
    """Return the text without marks of reasoning, and without white space at its ends."""
    return MARK.sub("", text).replace("<|end|><|start|>assistant", "\n").strip()
