"""``NativePrompts``: tools, calls and results as the model was trained on them, in its own chat template's words.

Tools go through the template's section for tools, calls are ``tool_calls`` of the assistant, results are ``tool`` messages. How the template
writes a call is found out by letting it write one, and by looking which of the call formats reads it back (``native_form``).

What comes behind an action is rendered after a short conversation whose last call holds a mark, and cut off behind the mark. The tokens that
the model has sampled stay as they are, its reasoning among them, also where the template would leave out the reasoning of earlier turns.

An answer that is no call stays the assistant's text, and what the environment says to it is a turn of the user: many templates allow the
result of a tool only behind a call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from steptool_env.errors import NotSupported
from steptool_env.formats import FORMATS, CallFormat, make_format, read
from steptool_env.types import Message, Observation, ToolCall

from ..trajectory.messages import earlier_call
from .base import Written
from .control import ControlTokens
from .instructed import alternating, behind, with_tools
from .template import PROBE, Template

__all__ = ["NativeForm", "NativeFormat", "NativePrompts", "native_form"]

_MARK, _RESULT = "Q1Z", "R2Z"
_CALL = ToolCall("probe_tool", {"city": _MARK, "days": 2})
_ID = "call00001"
"""Nine letters and digits: some templates refuse other ids."""


class NativeForm(NamedTuple):
    """How a template takes and writes calls."""

    name: str
    """Of the call format that reads what the template writes."""
    arguments_as_text: bool
    """Whether it takes the arguments as JSON text instead of an object."""
    content: str | None
    """What it takes as the content beside a call."""
    result: bool
    """Whether it writes results as ``tool`` messages."""

    def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the assistant's message with a call."""
        given = json.dumps(dict(arguments), ensure_ascii=False) if self.arguments_as_text else dict(arguments)
        return {"role": "assistant", "content": self.content, "tool_calls": [{"type": "function", "id": _ID, "function": {"name": name, "arguments": given}}]}

    def answer(self, name: str, content: str) -> dict[str, Any]:
        """Return the message with a call's result."""
        if not self.result:
            return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
        return {"role": "tool", "name": name, "tool_call_id": _ID, "content": content}


def native_form(template: Template, ends: Sequence[str]) -> NativeForm | None:
    """Find out how a template writes calls, and which call format reads them; None if it writes none that can be read.

    Args:
        template: The template.
        ends: Texts of the end-of-turn tokens.
    """
    for result in (True, False):
        for content in ("", None):
            for arguments_as_text in (False, True):
                form = NativeForm("", arguments_as_text, content, result)
                try:
                    text, _ = written(template, form, _CALL, ends, stops=())
                except NotSupported:
                    continue
                if _MARK in text and (name := _read_back(text, template.opening)) is not None:
                    return form._replace(name=name)
    return None


def _read_back(text: str, opening: str) -> str | None:
    """Return the call format that reads the probing call exactly, forgiving nothing; of several, the one with the longest mark of its own in the text."""
    best: tuple[int, str] | None = None
    for name in FORMATS:
        form = make_format(name)
        reading = read(form, text, prefix=opening, tools=[PROBE])
        if reading.action == _CALL and not reading.repaired:
            mark = getattr(form, "mark", "")
            best = max(best or (-1, ""), (len(mark) if mark in text else 0, name))
    return best[1] if best is not None else None


def written(template: Template, form: NativeForm, call: ToolCall, ends: Sequence[str], stops: Sequence[str]) -> tuple[str, str]:
    """Return what the model has to write at the end of a prompt to make a call, and the end-of-turn token behind it; ``""`` where it stops without one.

    Args:
        template: The template.
        form: How it takes calls.
        call: The call; texts may hold placeholders.
        ends: Texts of the end-of-turn tokens.
        stops: Texts at which the model stops within its turn.

    Raises:
        NotSupported: The template cannot write it.
    """
    start = [{"role": "user", "content": "Q"}]
    bare = template.render(start, tools=[PROBE])
    text = template.render([*start, form.call(call.name, call.arguments), form.answer(call.name, _RESULT)], tools=[PROBE], generation=True)
    place = text.rfind(_RESULT)
    if not text.startswith(bare) or place < len(bare):
        raise NotSupported(f"the chat template of {template.name} changes or leaves out messages when a call and its result follow them")
    turn = text[len(bare) : place]
    turn = turn[len(template.opening):] if turn.startswith(template.opening) else _after_other_opening(turn, template.opening)
    stop = max((found + len(one) for one in stops if (found := turn.rfind(one)) >= 0), default=None)
    if stop is not None:
        return turn[:stop], ""
    place, end = min(((found, one) for one in ends if one and (found := turn.find(one)) >= 0), default=(len(turn), ""))
    return turn[:place], end


def _after_other_opening(turn: str, opening: str) -> str:
    """Return a turn behind an opening that differs from the one with which the model begins: it left out, or closed, the reasoning.

    If the model begins within its reasoning, the reasoning is closed first.
    """
    common = next((k for k, (one, other) in enumerate(zip(turn, opening, strict=False)) if one != other), min(len(turn), len(opening)))
    mark = opening.rfind("<think>")
    if mark < 0:
        return turn[common:]
    header = opening[:mark]
    rest = turn[len(header) :] if turn.startswith(header) else turn[common:]
    rest = rest.removeprefix("<think>").lstrip("\n")
    return rest if rest.startswith("</think>") else f"</think>\n\n{rest}"


class NativeFormat:
    """A template's own way of writing calls, as a call format."""

    def __init__(self, template: Template, form: NativeForm, ends: Sequence[str]) -> None:
        self.template, self.form, self.ends = template, form, ends
        self.reader: CallFormat = make_format(form.name)
        self.name = f"native ({form.name})"
        self.stop: tuple[str, ...] = self.reader.stop

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """Return the instructions of the form, for tools that come into reach later and for templates without a section for tools."""
        return self.reader.instructions(tools)

    def render(self, call: ToolCall) -> str:
        """Return the text of a call as the template writes it where the model begins to write."""
        return written(self.template, self.form, call, self.ends, self.stop)[0]

    def parse(self, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Any:
        """Read the first call in an answer; see ``CallFormat``."""
        return self.reader.parse(text, prefix=prefix, tools=tools)


class NativePrompts:
    """Observations in a chat template's own words.

    Args:
        template: The model's.
        call_format: How it writes calls.
    """

    def __init__(self, template: Template, call_format: NativeFormat) -> None:
        self.template, self.call_format, self.form, self.ends = template, call_format, call_format.form, call_format.ends
        self.opening = template.opening
        self.control = ControlTokens(template.tokenizer)

    def prompt(self, observation: Observation) -> list[int]:
        schemas = self.control.hide(json.loads(observation["tools"]))
        chat = self._chat(observation["messages"])
        if not self.template.has_tools:
            chat = self._instructed(chat, self.call_format.instructions(schemas))
        return self.control.encode(self._render(chat, schemas if self.template.has_tools else None))

    def extend(self, action: Message, messages: Sequence[Message], tools: str, *, ended: bool) -> list[int]:
        call = earlier_call(action)
        start: list[dict[str, Any]] = [{"role": "user", "content": "Q"}]
        if call is None:
            start.append({"role": "assistant", "content": _MARK})
        else:
            start.append(self.form.call(self.control.hide(call.name), {"q": _MARK}))
        chat = self._results(call, messages)
        if tools:
            chat = with_tools(chat, self.call_format.instructions(self.control.hide(json.loads(tools))))
        text = self._render([*start, *chat], [PROBE] if self.template.has_tools else None)
        text = text[text.index(_MARK) + len(_MARK) :]
        stops = self.call_format.stop if call is not None else ()
        return self.control.encode(behind(text, self.ends, ended=ended, stops=stops, within_call=call is not None))

    def write(self, call: ToolCall) -> Written:
        hidden = ToolCall(self.control.hide(call.name), self.control.hide(call.arguments))
        text, end = written(self.template, self.form, hidden, self.ends, self.call_format.stop)
        return Written(self.control.show(text), self.control.encode(text + end), bool(end))

    def _render(self, chat: Sequence[dict[str, Any]], tools: Sequence[Mapping[str, Any]] | None) -> str:
        try:
            return self.template.render(chat, tools=tools, generation=True)
        except NotSupported:
            # Some templates let no turn of the user follow a result: what the user says then joins the result.
            merged = list(_joined(chat))
            if len(merged) == len(chat):
                raise
            return self.template.render(merged, tools=tools, generation=True)

    def _chat(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return a transcript as messages for the template."""
        chat: list[dict[str, Any]] = []
        waiting: list[Message] = []
        call: ToolCall | None = None
        for message in messages:
            if message.role != "assistant":
                waiting.append(message)
                continue
            chat += self._results(call, waiting)
            waiting, call = [], earlier_call(message)
            if call is None:
                chat.append({"role": "assistant", "content": self.control.hide(message.content)})
            else:
                chat.append(self.form.call(self.control.hide(call.name), self.control.hide(call.arguments)))
        return [*chat, *self._results(call, waiting)]

    def _results(self, call: ToolCall | None, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return what came in after an action: behind a call first its result, everything else as turns of the user."""
        chat: list[dict[str, Any]] = []
        left = [Message(message.role, self.control.hide(message.content)) for message in messages]
        if call is not None:
            result = left.pop(0).content if left and left[0].role == "tool" else ""
            chat.append(self.form.answer(self.control.hide(call.name), result))
        return alternating([*chat, *({"role": "user" if message.role == "tool" else message.role, "content": message.content} for message in left)])

    def _instructed(self, chat: list[dict[str, Any]], instructions: str) -> list[dict[str, Any]]:
        if self.template.has_system:
            return [{"role": "system", "content": instructions}, *chat]
        return [{**chat[0], "content": f"{instructions}\n\n{chat[0]['content']}"}, *chat[1:]]


def _joined(chat: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Yield messages, with what a user says directly behind a result as part of the result."""
    last: dict[str, Any] | None = None
    for turn in chat:
        if last is not None and last["role"] == "tool" and turn["role"] == "user":
            last = {**last, "content": f"{last['content']}\n\n{turn['content']}"}
            continue
        if last is not None:
            yield last
        last = turn
    if last is not None:
        yield last
