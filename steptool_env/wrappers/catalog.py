"""The catalog of calls: a tool in one of its forms, with a value in focus. The other arguments are filled by role, else by recency."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from steptool_env.tools.tool import Tool
from steptool_env.wrappers.memory import Value, words_of

__all__ = ["NOTHING", "Form", "bind", "choices_of", "fit", "forms_of", "takes_any_text"]

_PLAIN = {"type", "description", "title"}
_MOST = 64
"""Forms of one tool."""
NOTHING: Any = object()
"""What no argument can be."""


class Form(NamedTuple):
    """A tool with everything that a value in focus leaves open already chosen."""

    tool: Tool
    focus: str
    """The argument that takes the value in focus; ``""`` if there is none."""
    fixed: tuple[tuple[str, Any], ...] = ()
    """Arguments with a fixed choice (an enum, a constant, a boolean), and what is chosen."""
    further: str = ""
    """One argument that may be left out and is filled here; ``""`` if there is none."""

    @property
    def words(self) -> tuple[str, ...]:
        """What the form says beside its tool, as words in lower case: choices, and names of arguments that are true, false or filled."""
        texts = [value if isinstance(value, str) else name for name, value in self.fixed]
        return tuple(word for text in (*texts, self.further) for word in words_of(text))


def forms_of(tool: Tool) -> tuple[Form, ...]:
    """Return the forms of a tool: every choice of the required arguments, then each optional argument by itself.

    - The focus is the first required argument without a fixed choice, else the first one.
    - Of the other required arguments, those with fixed choices make one form for each combination of choices.
    - Each argument that may be left out makes forms of its own: one for each choice (but its default), or one in which
      it is filled. In all other forms it is left out. For a tool that requires nothing it is in focus.
    - There are at most 64. Choices that would be more are filled like other arguments; optional arguments beyond are left out.
    """
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    required = [str(name) for name in tool.parameters.get("required", ())]
    free = [name for name in required if choices_of(properties.get(name, {})) is None]
    focus = (free or required or [""])[0]
    choices = {name: choices_of(properties.get(name, {})) for name in required if name != focus}
    chosen = {name: values for name, values in choices.items() if values}
    count = 1
    for values in chosen.values():
        count *= len(values)
    combinations = itertools.product(*([(name, value) for value in values] for name, values in chosen.items())) if count <= _MOST else [()]
    basic = [Form(tool, focus, fixed) for fixed in combinations]
    extended = []
    for name, schema in properties.items():
        if name in required:
            continue
        options = choices_of(schema)
        for form in basic:
            if options is not None:
                extended += [form._replace(fixed=(*form.fixed, (name, value))) for value in options if value != schema.get("default", NOTHING)]
            else:
                extended.append(form._replace(further=name) if required else form._replace(focus=name))
    return tuple([*basic, *extended][:_MOST])


def takes_any_text(form: Form) -> bool:
    """Return whether every value but True and False binds, and nothing is left to check: all is chosen but one plain text."""
    properties = form.tool.parameters.get("properties", {})
    schema = properties.get(form.focus)
    open_ones = set(form.tool.parameters.get("required", ())) - {form.focus} - {name for name, _ in form.fixed}
    plain = isinstance(schema, Mapping) and schema.get("type") == "string" and schema.keys() <= _PLAIN
    return plain and not open_ones and not form.further


def bind(form: Form, slot: int, slots: Sequence[Value | None]) -> dict[str, Any] | None:
    """Return the arguments of the call with the value of ``slots[slot]`` in focus, or None if there is no such call.

    - The focus takes the value of the slot; an argument with a fixed choice takes the choice of that number instead.
    - Every other argument of the form takes the latest value whose role shares a word with its name, else the latest value
      that fits and is not in use, else the first of its fixed choices.
    - A form without a focus has one binding, in slot 0.
    """
    tool = form.tool
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    schema: Any = {}
    arguments: dict[str, Any] = {}
    if form.focus:
        schema = properties.get(form.focus, {})
        first = _in_focus(schema, slot, slots)
        if first is NOTHING:
            return None
        arguments[form.focus] = first
    elif slot:
        return None
    arguments.update(form.fixed)
    for name in (*tool.parameters.get("required", ()), form.further):
        if name and name not in arguments:
            filled = _fill(name, properties.get(name, {}), slots, list(arguments.values()))
            if filled is NOTHING:
                return None
            arguments[name] = filled
    if len(arguments) <= 1 and isinstance(schema, Mapping) and schema.keys() <= _PLAIN:
        return arguments  # the type was all there is to check
    return arguments if not tool.check(arguments) else None


def _in_focus(schema: Any, slot: int, slots: Sequence[Value | None]) -> Any:
    choices = choices_of(schema)
    if choices is not None:
        return choices[slot] if slot < len(choices) else NOTHING
    value = slots[slot]
    return fit(value.content, schema) if value is not None else NOTHING


def _fill(name: str, schema: Any, slots: Sequence[Value | None], taken: list[Any]) -> Any:
    choices = choices_of(schema)
    fitting = [(value, fitted) for value in slots if value is not None and (fitted := fit(value.content, schema)) is not NOTHING]
    if choices is not None:
        return next((fitted for _, fitted in fitting if fitted in choices), choices[0] if choices else NOTHING)
    asked = set(words_of(name))
    by_role = [fitted for value, fitted in fitting if asked & set(words_of(value.role))]
    fresh = [fitted for _, fitted in fitting if fitted not in taken]
    return next(iter([*by_role, *fresh]), NOTHING)


def choices_of(schema: Any) -> list[Any] | None:
    if not isinstance(schema, Mapping):
        return None
    if "enum" in schema:
        return list(schema["enum"])
    if "const" in schema:
        return [schema["const"]]
    return [False, True] if schema.get("type") == "boolean" else None


def fit(content: Any, schema: Any) -> Any:
    """Return the value as the schema's type, or ``NOTHING``; the schema's other keywords are checked on the whole call."""
    kind = schema.get("type", "string") if isinstance(schema, Mapping) else "string"
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    match kind:
        case "string":
            return content if isinstance(content, str) else NOTHING if isinstance(content, bool) else str(content)
        case "integer" | "number":
            return _number(content, kind)
        case "array":
            inner = fit(content, schema.get("items", {}))
            return [inner] if inner is not NOTHING else NOTHING
    return NOTHING


def _number(content: Any, kind: str) -> Any:
    if isinstance(content, bool):
        return NOTHING
    if isinstance(content, str):
        try:
            content = float(content) if kind == "number" and len(content) < 40 else int(content) if len(content) < 40 else NOTHING
        except ValueError:
            return NOTHING
    if kind == "integer" and isinstance(content, float):
        return int(content) if content.is_integer() else NOTHING
    return NOTHING if content != content or content in (float("inf"), float("-inf")) else content
