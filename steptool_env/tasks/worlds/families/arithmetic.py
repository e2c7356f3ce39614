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
        seen=("What is the {field} of {first} in {unit}? Report the number only.", "Convert the {field} of {first} to {unit} and report the number."),
        unseen=("How many {unit} is {first}'s {field}? Just the number, please.",),
    ),
    "later": Wording(
        seen=("Which date is {days} days after the {field} of {first}? Write it as YYYY-MM-DD.",),
        unseen=("Take {first}'s {field} and go {days} days on: what date is that (YYYY-MM-DD)?",),
    ),
    "days": Wording(
        seen=("How many days lie between the {field} of {first} and the {second_field} of {second}?",),
        unseen=("{first}'s {field} and {second}'s {second_field}: how many days are they apart?",),
    ),
    "difference": Wording(
        seen=("By how much do the {field} of {first} and the {second_field} of {second} differ?",),
        unseen=("Subtract the smaller from the larger: {first}'s {field} and {second}'s {second_field}.",),
    ),
}


class Arithmetic(Family):
    """One value to convert, or two to compare."""

    name: ClassVar[str] = "arithmetic"

    def draw(self, scene: Scene, depth: int) -> Quest:
        what = scene.rng.choice([name for name in _ASK if depth > 1 or name in ("unit", "later")])
        value_kinds = {"unit": tuple(UNITS), "later": ("date",), "days": ("date",), "difference": ("amount",)}[what]
        values, names, places, reads = list[str](), list[str](), [], list[tuple[str, str, str]]()
        for length in scene.split(depth, 1 if what in ("unit", "later") else 2):
            fields = {
                kind: [name for name, value_kind in {**entity.attributes, **entity.details}.items() if value_kind in value_kinds]
                for kind, entity in scene.domain.entities.items()
            }
            place, kinds, ids = scene.path(length, [kind for kind, found in fields.items() if found])
            name = scene.rng.choice(fields[kinds[-1]])
            values.append(str(scene.value(kinds[-1], ids[-1], name)))
            reads += scene.along(kinds, ids, place.relations, name)
            names.append(name)
            places.append(place)
        unit, days = "", scene.rng.randint(11, 999)
        if what == "unit":
            number, _, value_kind = values[0].partition(" ")
            unit, factor = UNITS[value_kind]
            answer = str(int(number) * factor)
        elif what == "later":
            answer = (datetime.date.fromisoformat(values[0]) + datetime.timedelta(days)).isoformat()
        elif what == "days":
            first_date, second_date = map(datetime.date.fromisoformat, values)
            answer = str(abs((first_date - second_date).days))
        else:
            answer = str(abs(int(values[0]) - int(values[1])))
        if what in ("days", "difference") and int(answer) < 10:
            raise Misfit  # easy to guess, or the same thing twice
        instruction = scene.say(_ASK[what], field=names[0], first=places[0], second_field=names[-1], second=places[-1], unit=unit, days=days)
        return Quest(instruction, Answer((answer,)), (tuple(scene.reads(reads)),))
