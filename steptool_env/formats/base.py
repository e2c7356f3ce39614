"""``CallFormat``: how a tool call is written in a model's text; ``Form`` and ``read``: what all of them share in reading it.

Reasoning is cut off first, once, for all: see ``reasoning.py``. Then the form's own marks decide where a call begins, and only a text
without any is searched again, for calls that lack them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from steptool_env.formats.reasoning import MARK, after, is_end, left_open, without_marks
from steptool_env.types import Action, Malformed, ToolCall, new_tuple

__all__ = ["CallFormat", "Form", "Reading", "Scan", "Tools", "read"]

Tools = Sequence[Mapping[str, Any]]
"""Function schemas, as in ``json.loads(observation["tools"])``."""

_MOST_BLOCKS = 64
"""So many blocks of reasoning in one reply are followed; what comes after is not read. It bounds the effort."""


@runtime_checkable
class CallFormat(Protocol):
    """A way to write one tool call as text. ``parse(render(call)) == call`` for every call with JSON arguments whose names it can write."""

    name: str
    stop: tuple[str, ...]
    """Texts at which generation can end: nothing after the first of them belongs to the call."""

    def instructions(self, tools: Tools) -> str:
        """Return the system text for models whose chat template knows no tools: the tools, and how to call them.

        Args:
            tools: Function schemas.
        """
        ...

    def render(self, call: ToolCall) -> str:
        """Return the text of a call; raises ``ValueError`` for what is no JSON, and for a name that the form cannot write."""
        ...

    def parse(self, text: str, *, prefix: str = "", tools: Tools = ()) -> Action:
        """Read the first call in an answer. Total, and linear in its length: text without a call becomes ``Malformed``.

        Args:
            text: What the model wrote.
            prefix: What the prompt wrote behind the last message, such as the ``<think>`` that some chat templates open.
            tools: Function schemas: the types of arguments that a form writes without quotes, and the names on offer.
        """
        ...


class Reading(NamedTuple):
    """What a reply contains: its first call, and what surrounds it."""

    action: Action
    reasoning: str
    """The text before the call, without the marks of reasoning and white space at its ends; all of it, if there is no call."""
    further: int
    """How many calls follow the first one in the same reply. They are not executed."""
    repaired: tuple[str, ...] = ()
    """Names of the slips in the call that were forgiven, in alphabetical order: keys of ``REPAIRS``."""


class Scan(NamedTuple):
    """What was found where a call may begin. A tuple, since one is made for every reply."""

    action: Action
    begin: int
    end: int
    """Where the search for the next call goes on; after the call and its closing mark."""
    data: bool = False
    """Whether this is no call at all, so that the search goes on; the action then holds the reason, in case there is no other."""
    more: int = 0
    """How many further calls stand within this one, in the same list."""

    def noted(self, *slips: str) -> Scan:
        """Return the same with further slips, if it is a call."""
        if not isinstance(self.action, ToolCall):
            return self
        return self._replace(action=replace(self.action, repaired=tuple(sorted({*self.action.repaired, *slips}))))


Take = Callable[[str, re.Match[str], Tools], Scan]


class Form:
    """What the formats of this package share. A subclass says where calls begin (``head``), and reads the one that begins there (``take``).

    ``loose`` and ``take_loose`` are for calls without the form's own marks; they are looked for only in a text in which ``head`` finds nothing.
    Patterns must match in linear time, and so must ``take`` read: a scan ends where the next one begins.
    """

    name: str
    stop: tuple[str, ...]
    expected: str
    """What a call looks like, for messages."""
    mark: ClassVar[str] = ""
    """What stands before a call, for the message that there is none."""
    head: re.Pattern[str]
    following: re.Pattern[str] | None = None
    """How the next call of a list begins, directly behind the last one."""
    loose: re.Pattern[str] | None = None
    least: ClassVar[int] = 3
    """No further call fits into so few characters."""

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the call that begins at a match of ``head`` or ``following``."""
        raise NotImplementedError

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the call that may begin at a match of ``loose``."""
        raise NotImplementedError

    def instructions(self, tools: Tools) -> str:
        """Return the tools, and how to call one."""
        raise NotImplementedError

    def render(self, call: ToolCall) -> str:
        """Return the text of a call."""
        raise NotImplementedError

    def parse(self, text: str, *, prefix: str = "", tools: Tools = ()) -> Action:
        """Read the first call, as ``CallFormat.parse`` says."""
        if not prefix and MARK.search(text) is None and (found := self.head.search(text)) is not None:
            action = self.take(text, found, tools).action
            if type(action) is ToolCall:  # a plain call, by far the most frequent: nothing else needs to be known
                return action
        return read(self, text, prefix=prefix, tools=tools).action

    def malformed(self, text: str, fault: str) -> Malformed:
        """Return what a broken call becomes."""
        return Malformed(text, f"{fault}; {self.expected}")

    def absent(self, text: str) -> Malformed:
        """Return what a text without a call becomes."""
        if not self.mark:
            return self.malformed(text, "there is no call")
        return self.malformed(text, f"no call follows {self.mark}" if self.mark in text else f"there is no {self.mark}")


def read(form: CallFormat, text: str, *, prefix: str = "", tools: Tools = (), strict: bool = False) -> Reading:
    """Return the first call of a reply, the text before it, how many calls come after it, and what was forgiven in it.

    A format that is no ``Form`` is read by its ``parse``: its reasoning and its further calls stay unknown.

    Args:
        form: How the call is written.
        text: What the model wrote.
        prefix: What the prompt wrote behind the last message: in what the template left open there, nothing is a call.
        tools: Function schemas of the tools on offer.
        strict: Refuse a call that needs repairs: it becomes ``Malformed``, and the repairs are named in the reason.
    """
    if not isinstance(form, Form):
        parsed = form.parse(text, prefix=prefix, tools=tools)
        reading = Reading(parsed, "", 0, parsed.repaired if isinstance(parsed, ToolCall) else ())
        return _refused(reading, text, "expected a call without slips") if strict and reading.repaired else reading
    # The most frequent: a plain call and nothing behind it. The marks of reasoning are looked for around the call, not within it.
    if not prefix and (head := form.head.search(text)) is not None and (not head.start() or MARK.search(text, 0, head.end()) is None):
        action, start, end, _, more = form.take(text, head, tools)
        alone = text[end:] in form.stop or (len(text) - end <= form.least and MARK.search(text, end) is None)
        if alone and type(action) is ToolCall and not action.repaired:
            return new_tuple(Reading, (action, _before(text, start) if start else "", more, ()))
    begin = 0
    if prefix and (mark := left_open(prefix)):
        begin = after(mark, text, 0)
        if begin < 0:
            return _endless(form, text)
    found = _walk(form, text, begin, form.head, form.take, tools)
    if found is None and form.loose is not None:
        found = _walk(form, text, begin, form.loose, form.take_loose, tools)
    if found is None:
        return Reading(form.absent(text), without_marks(text), 0)
    return _refused(found, text, form.expected) if strict and found.repaired else found


def _refused(reading: Reading, text: str, expected: str) -> Reading:
    reason = f"the call can be read only with repairs ({', '.join(reading.repaired)})"
    return Reading(Malformed(text, f"{reason}; {expected}"), reading.reasoning, reading.further, reading.repaired)


def _endless(form: Form, text: str) -> Reading:
    return Reading(form.malformed(text, "the reasoning has no end, such as </think>; after it"), without_marks(text), 0)


def _walk(form: Form, text: str, place: int, head: re.Pattern[str], take: Take, tools: Tools) -> Reading | None:
    """Go through calls and marks of reasoning in the order in which they stand; a mark within a call belongs to the call.

    Reasoning that was begun is skipped up to its end. An end without a beginning says that all before it was reasoning: the prompt, or
    the model without saying so, had begun it. Linear: each scan begins where the last one ended, and a broken call ends the search.
    """
    first: Scan | None = None
    data: Scan | None = None
    further = blocks = 0
    mark = MARK.search(text, place)
    found = head.search(text, place)
    exhausted = found is None  # from here on, so is every later place
    while found is not None or mark is not None:
        if mark is None or (found is not None and found.start() < mark.start()):
            assert found is not None
            scan = (form.take if found.re is form.following else take)(text, found, tools)
            place = scan.end
            if scan.data:
                data = data or scan
                found = head.search(text, place)
                exhausted = found is None
            elif type(scan.action) is ToolCall:
                if first is None:
                    first = scan
                else:
                    further += 1
                further += scan.more
                found = (form.following.match(text, place) if form.following is not None else None) or head.search(text, place)
            else:
                first = first or scan
                place, found = found.end(), None
            if mark is not None and mark.start() < place:
                mark = MARK.search(text, place)
            continue
        blocks += 1
        if blocks > _MOST_BLOCKS:
            break
        if is_end(mark):
            place, first, data, further = mark.end(), None, None, 0
        else:
            place = after(mark[0], text, mark.end())
            if place < 0:
                if first is None:
                    return _endless(form, text)
                break
        mark = MARK.search(text, place)
        if not exhausted and ((found is None and first is None) or (found is not None and found.start() < place)):
            found = head.search(text, place)
            exhausted = found is None
    first = first or data
    if first is None:
        return None
    action = first.action
    if type(action) is ToolCall:
        return Reading(action, _before(text, first.begin), further, action.repaired)
    return Reading(action, _before(text, first.begin), 0)


def _before(text: str, begin: int) -> str:
    return without_marks(text[:begin]) if begin else ""
