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

__all__ = ["FUNCTION_WORDS", "Asked", "Plan", "bind_again", "bind_asked", "what_speaks"]

FUNCTION_WORDS = frozenset(
    "a an and as at be by for from have i id in is it its me need of on one only or please than that the their them this those to what which whose with".split()
)
"""Words of instructions and descriptions that say nothing of what is spoken of."""

_FAR = 12
"""Words between the name of an argument and a value from which on they have nothing to do with each other."""
_NEAR = 0.4
"""What must speak for an optional argument that is filled without being in focus."""
_PLAIN = {"type", "description", "title"}


class _Argument(NamedTuple):
    name: str
    words: frozenset[str]
    described: frozenset[str]
    """The words of its description."""
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
            described = frozenset(words_of(str(schema.get("description", "")))) - FUNCTION_WORDS
            arguments.append(_Argument(name, frozenset(words_of(name)), described, schema, name in required, None if choices is None else tuple(choices)))
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


def _affinity(argument: _Argument, places: Sequence[int], item: Item) -> float:
    """Return how much speaks for a value in an argument, from 0 to 1.

    Its role has a word of the argument's name: 1 if the user said the value, .9 if a result shows it; of the argument's
    description: .8. Otherwise, the nearer the user speaks of both, the more, below .6.
    """
    if not argument.words.isdisjoint(item.words):
        return 1.0 if item.source == 0 else 0.9
    if not argument.described.isdisjoint(item.words):
        return 0.8
    if not places or item.place < 0:
        return 0.0
    return 0.6 * max(0.0, 1.0 - min([abs(place - item.place) for place in places]) / _FAR)


def what_speaks(asked: Asked, items: Sequence[Item | None]) -> list[list[float]]:
    """Return for each open argument how much speaks for each of the values; 0 for those that are empty."""
    return [[0.0 if item is None or item.content is None else _affinity(argument, places, item) for item in items] for argument, places in asked.open]


def bind_asked(
    asked: Asked, focus: int | None, items: Sequence[Item | None], speaks: Sequence[Sequence[float]], used: Set[str]
) -> tuple[dict[str, Any], float] | None:
    """Return the arguments of the call with a value in focus, and how much speaks for it; None if there is no such call.

    - The focus goes to the open argument for which most speaks, compared with the other values.
    - Every other required argument takes the value for which most speaks; an optional one does so if that was not passed on
      yet, and is named beside it.
    - Choices are those that the user names, the last one before the focus; a required one is else the first.

    What speaks for a call is what speaks for the weakest of its required arguments and the focus, from 0 to 1.

    Args:
        asked: The tool.
        focus: Which of the values; None for the call that takes none.
        items: All values in reach.
        speaks: What ``what_speaks`` says of them.
        used: Contents, as text, that were passed on.
    """
    item = None if focus is None else items[focus]
    if focus is not None and (item is None or item.content is None or not asked.open):
        return None
    if asked.simple:
        if focus is None or item is None or isinstance(item.content, bool):
            return None
        return {asked.simple: str(item.content)}, speaks[0][focus]
    arguments: dict[str, Any] = {}
    weakest = 1.0
    others = [place for place, other in enumerate(items) if other and other.content is not None and not (item and other.content == item.content)]
    if focus is not None and item is not None:
        fitting = [
            (scores[focus] - max([scores[other] for other in others], default=0.0), -number, argument.name, fitted, scores[focus])
            for number, ((argument, _), scores) in enumerate(zip(asked.open, speaks, strict=True))
            if (fitted := fit(item.content, argument.schema)) is not NOTHING
        ]
        if not fitting:
            return None
        _, _, name, fitted, weakest = max(fitting)
        arguments[name] = fitted
    for (argument, _), scores in zip(asked.open, speaks, strict=True):
        if argument.name not in arguments:
            score, best = _best(argument, scores, [(place, items[place]) for place in others], list(arguments.values()), used)
            if best is not NOTHING:
                arguments[argument.name] = best
                weakest = min(weakest, score) if argument.required else weakest
            elif argument.required:
                return None
    place = item.place if item is not None else -1
    for argument, named in asked.chosen:
        if named:
            arguments[argument.name] = max(named, key=lambda entry: (entry[0] < place, entry[0] if entry[0] < place else -entry[0]))[1]
        elif argument.choices:
            arguments[argument.name] = argument.choices[0]
        else:
            return None
    return (arguments, weakest) if not asked.plan.tool.check(arguments) else None


def bind_again(asked: Asked, notes: Notes) -> dict[str, Any] | None:
    """Return the arguments of the last good call with the number that its result reports one higher: the next page."""
    if notes.last is None or notes.last.name != asked.plan.tool.name:
        return None
    for argument in asked.plan.arguments:
        if argument.name in notes.numbers and argument.schema.get("type") == "integer":
            arguments = {**notes.last.arguments, argument.name: notes.numbers[argument.name] + 1}
            return arguments if not asked.plan.tool.check(arguments) else None
    return None


def _best(
    argument: _Argument, scores: Sequence[float], items: Iterable[tuple[int, Item | None]], taken: Sequence[Any], used: Set[str]
) -> tuple[float, Any]:
    """Return what most speaks for, and how much; what was passed on is no optional argument, and counts half where only places speak for it."""
    best: tuple[float, Any] = (0.0, NOTHING)
    for place, item in items:
        score = scores[place]
        if item is None or (not argument.required and score < _NEAR) or (score <= best[0] and best[1] is not NOTHING):
            continue
        if str(item.content) in used:
            if not argument.required:
                continue
            score *= 0.5 if score <= 0.6 else 0.95
        if score > best[0] or best[1] is NOTHING:
            fitted = fit(item.content, argument.schema)
            if fitted is not NOTHING and fitted not in taken:
                best = (score, fitted)
    return best
