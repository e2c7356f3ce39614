"""Calls as the user asks for them: a tool with a value in focus, its other arguments filled from what the user names.

The compact form has one call for each tool and value. Which argument the value goes to, and what the others are, follows from
names: of arguments, of fields in results, and of what the user says where.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from steptool_env.tools.tool import Tool
from steptool_env.wrappers.catalog import NOTHING, choices_of, fit
from steptool_env.wrappers.memory import words_of
from steptool_env.wrappers.notes import Item, Notes

__all__ = ["Asked", "Plan", "affinity", "bind_again", "bind_asked"]

_NEAR = 4
"""Words between the name of an optional argument and what is filled in without being in focus."""
_PLAIN = {"type", "description", "title"}


class _Argument(NamedTuple):
    name: str
    words: frozenset[str]
    schema: Mapping[str, Any]
    required: bool
    choices: tuple[Any, ...] | None


class Plan(NamedTuple):
    """What does not change about a tool."""

    tool: Tool
    words: tuple[str, ...]
    """Of its name; the first one is the verb."""
    text: frozenset[str]
    """The words of its name and description."""
    arguments: tuple[_Argument, ...]

    @classmethod
    def of(cls, tool: Tool) -> Plan:
        properties: Mapping[str, Any] = tool.parameters.get("properties", {})
        required = tool.parameters.get("required", ())
        arguments = []
        for name, given in properties.items():
            schema = given if isinstance(given, Mapping) else {}
            choices = choices_of(schema)
            arguments.append(_Argument(name, frozenset(words_of(name)), schema, name in required, None if choices is None else tuple(choices)))
        words = tuple(words_of(tool.name))
        return cls(tool, words, frozenset([*words, *words_of(tool.description)]), tuple(arguments))


class Asked(NamedTuple):
    """A plan for one task: which arguments are open, and where the user speaks of them."""

    plan: Plan
    open: tuple[tuple[_Argument, tuple[int, ...]], ...]
    """Arguments that take a value: all that are required, and the optional ones that the user names; and where."""
    chosen: tuple[tuple[_Argument, tuple[tuple[int, Any], ...]], ...]
    """Arguments with fixed choices: where the user names which. A required one takes its first choice if that is nowhere."""
    simple: str
    """The one argument, if it takes any text and there is nothing else to fill."""

    @classmethod
    def of(cls, plan: Plan, notes: Notes) -> Asked:
        opened, chosen = [], []
        for argument in plan.arguments:
            places = tuple(notes.spoken(argument.words))
            if argument.choices is not None:
                named = sorted((place, choice) for choice in argument.choices for place in notes.spoken(words_of(str(choice))))
                if argument.required or (places and named):
                    chosen.append((argument, tuple(named)))
            elif argument.required or (places and argument.schema.get("type") != "integer"):
                opened.append((argument, places))
        only = opened[0][0] if len(opened) == 1 and not chosen else None
        simple = only.name if only and only.schema.get("type") == "string" and only.schema.keys() <= _PLAIN else ""
        return cls(plan, tuple(opened), tuple(chosen), simple)


def affinity(argument: _Argument, places: Sequence[int], item: Item) -> float:
    """Return how much speaks for a value in an argument, from 0 to 1.

    Its role has a word of the argument's name: 1 if the user said the value, .9 if a result shows it. Otherwise, the nearer the
    user speaks of both, the more, up to .5.
    """
    if not argument.words.isdisjoint(item.words):
        return 1.0 if item.source == 0 else 0.9
    if not places or item.place < 0:
        return 0.0
    return 1.0 / (1 + max(1, min(abs(place - item.place) for place in places)))


def bind_asked(asked: Asked, focus: Item | None, items: Iterable[Item | None], used: Set[str]) -> dict[str, Any] | None:
    """Return the arguments of the call with the value in focus, or None if there is no such call.

    - The focus goes to the open argument for which most speaks, compared with the other values.
    - Every other required argument takes the value for which most speaks; an optional one does so if that was not passed on
      yet, and is named beside it.
    - Choices are those that the user names, the last one before the focus; a required one is else the first.

    Args:
        asked: The tool.
        focus: The value; None for the call that takes none.
        items: All values in reach.
        used: Contents, as text, that were passed on.
    """
    if asked.simple:
        if focus is None or focus.content is None or isinstance(focus.content, bool):
            return None
        return {asked.simple: str(focus.content)}
    arguments: dict[str, Any] = {}
    others = [item for item in items if item is not None and item.content is not None and (focus is None or item.content != focus.content)]
    if focus is not None:
        if focus.content is None or not asked.open:
            return None
        fitting = [
            (affinity(argument, places, focus) - max((affinity(argument, places, other) for other in others), default=0.0), -number, argument, fitted)
            for number, (argument, places) in enumerate(asked.open)
            if (fitted := fit(focus.content, argument.schema)) is not NOTHING
        ]
        if not fitting:
            return None
        _, _, argument, fitted = max(fitting, key=lambda entry: entry[:2])
        arguments[argument.name] = fitted
    for argument, places in asked.open:
        if argument.name in arguments:
            continue
        best = _best(argument, places, others, list(arguments.values()), used)
        if best is not None:
            arguments[argument.name] = best
        elif argument.required:
            return None
    place = focus.place if focus is not None else -1
    for argument, named in asked.chosen:
        if named:
            arguments[argument.name] = max(named, key=lambda entry: (entry[0] < place, entry[0] if entry[0] < place else -entry[0]))[1]
        elif argument.choices:
            arguments[argument.name] = argument.choices[0]
        else:
            return None
    return arguments if not asked.plan.tool.check(arguments) else None


def bind_again(asked: Asked, notes: Notes) -> dict[str, Any] | None:
    """Return the arguments of the last good call with the number that its result reports one higher: the next page."""
    if notes.last is None or notes.last.name != asked.plan.tool.name:
        return None
    for argument in asked.plan.arguments:
        if argument.name in notes.numbers and argument.schema.get("type") == "integer":
            arguments = {**notes.last.arguments, argument.name: notes.numbers[argument.name] + 1}
            return arguments if not asked.plan.tool.check(arguments) else None
    return None


def _best(argument: _Argument, places: Sequence[int], items: Sequence[Item], taken: Sequence[Any], used: Set[str]) -> Any:
    """Return what most speaks for; what was passed on before is no optional argument, and counts half where only places speak for it."""
    best: tuple[float, Any] = (0.0, None)
    for item in items:
        fitted = fit(item.content, argument.schema)
        if fitted is NOTHING or fitted in taken:
            continue
        score = affinity(argument, places, item)
        if str(item.content) in used:
            score = score if score > 0.5 else score / 2
        if not argument.required and (score < 1 / (1 + _NEAR) or str(item.content) in used):
            continue
        if score > best[0] or best[1] is None:
            best = (score, fitted)
    return best[1]
