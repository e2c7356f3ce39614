"""``arithmetic``: reckon with units, dates and amounts that have to be looked up."""

from __future__ import annotations

import datetime
from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.scene import Misfit, Quest, Scene, Wording
from steptool_env.tasks.worlds.values import UNITS

__all__ = ["Arithmetic"]

_ASK = {
    "unit": Wording(
        seen=("What is the {one} of {first} in {unit}? Report the number only.", "Convert the {one} of {first} to {unit} and report the number."),
        unseen=("How many {unit} is {first}'s {one}? Just the number, please.",),
    ),
    "later": Wording(
        seen=("Which date is {days} days after the {one} of {first}? Write it as YYYY-MM-DD.",),
        unseen=("Take {first}'s {one} and go {days} days on: what date is that (YYYY-MM-DD)?",),
    ),
    "days": Wording(
        seen=("How many days lie between the {one} of {first} and the {other} of {second}?",),
        unseen=("{first}'s {one} and {second}'s {other}: how many days are they apart?",),
    ),
    "difference": Wording(
        seen=("By how much do the {one} of {first} and the {other} of {second} differ?",),
        unseen=("Subtract the smaller from the larger: {first}'s {one} and {second}'s {other}.",),
    ),
}


class Arithmetic(Family):
    """One value to convert, or two to compare."""

    name: ClassVar[str] = "arithmetic"

    def draw(self, scene: Scene, depth: int) -> Quest:
        what = scene.rng.choice([name for name in _ASK if depth > 1 or name in ("unit", "later")])
        sorts = {"unit": tuple(UNITS), "later": ("date",), "days": ("date",), "difference": ("amount",)}[what]
        values, names, places, reads = list[str](), list[str](), [], list[tuple[str, str, str]]()
        for length in scene.split(depth, 1 if what in ("unit", "later") else 2):
            fields = {kind: [name for name, sort in {**one.attributes, **one.details}.items() if sort in sorts] for kind, one in scene.domain.entities.items()}
            place, kinds, ids = scene.path(length, [kind for kind, found in fields.items() if found])
            name = scene.rng.choice(fields[kinds[-1]])
            values.append(str(scene.value(kinds[-1], ids[-1], name)))
            reads += scene.along(kinds, ids, place.relations, name)
            names.append(name)
            places.append(place)
        unit, days = "", scene.rng.randint(11, 999)
        if what == "unit":
            number, _, sort = values[0].partition(" ")
            unit, factor = UNITS[sort]
            answer = str(int(number) * factor)
        elif what == "later":
            answer = (datetime.date.fromisoformat(values[0]) + datetime.timedelta(days)).isoformat()
        elif what == "days":
            one, other = map(datetime.date.fromisoformat, values)
            answer = str(abs((one - other).days))
        else:
            answer = str(abs(int(values[0]) - int(values[1])))
        if what in ("days", "difference") and int(answer) < 10:
            raise Misfit  # easy to guess, or the same thing twice
        instruction = scene.say(_ASK[what], one=names[0], first=places[0], other=names[-1], second=places[-1], unit=unit, days=days)
        return Quest(instruction, Answer((answer,)), (tuple(scene.reads(reads)),))
