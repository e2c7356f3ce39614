"""``condition``: depending on an amount, change one thing, or report another."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.plan import Step
from steptool_env.tasks.worlds.scene import Quest, Scene, Wording
from steptool_env.tasks.worlds.tools import change_tool
from steptool_env.types import ToolCall

__all__ = ["Condition"]

_ASK = Wording(
    seen=(
        "If the {amount} of {first} is above {limit}, {verb} {second} and report the confirmation; otherwise report the {attribute} of {third}.",
        "Look up the {amount} of {first}. Is it above {limit}? Then {verb} {second} and tell me the confirmation. If not, tell me the {attribute} of {third}.",
    ),
    unseen=(
        "Only if {first}'s {amount} exceeds {limit}, {verb} {second} and answer with the confirmation. Else answer with {third}'s {attribute}.",
        "{third}'s {attribute} is what I need, unless {first}'s {amount} exceeds {limit}: in that case {verb} {second} and give me the confirmation.",
    ),
)


class Condition(Family):
    """One branch decides which of two others has to be gone."""

    name: ClassVar[str] = "condition"
    least: ClassVar[int] = 3

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return bool(domain.changes)

    def draw(self, scene: Scene, depth: int) -> Quest:
        rng, entities = scene.rng, scene.domain.entities
        acts = rng.random() < 0.5
        length = rng.randint(1, depth - (2 if acts else 1))
        first, kinds, ids = scene.path(length, [name for name, entity in entities.items() if "amount" in entity.attributes.values()])
        amount = next(name for name, value_kind in entities[kinds[-1]].attributes.items() if value_kind == "amount")
        reads = scene.along(kinds, ids, first.relations, amount)
        value = scene.entities[ids[-1]][amount]
        limit = rng.randrange(100, value, 100) if acts and value > 200 else rng.randrange(-(-value // 100) * 100, 10_100, 100) if not acts else 99
        change = rng.choice(scene.domain.changes)
        second, types, keys = scene.path(max(2, depth - length), [change.entity])
        third, third_types, third_keys = scene.path(depth - length, entities)
        attribute = rng.choice(list(entities[third_types[-1]].attributes))
        instruction = scene.say(_ASK, amount=amount, first=first, limit=limit, verb=change.verb, second=second, attribute=attribute, third=third)
        offered = (*scene.tools([*types[:-1], *third_types]), change_tool(change))  # what is on offer does not tell the branch
        if not acts:
            reads += scene.along(third_types, third_keys, third.relations, attribute)
            return Quest(instruction, Answer((str(scene.entities[third_keys[-1]][attribute]),)), (tuple(scene.reads(reads)),), offered=offered)
        code, key = scene.code(), keys[-1]
        goal = ("done", change_tool(change), key)
        reads += scene.along(types, keys, second.relations)
        act = Step(ToolCall(change_tool(change), {f"{change.entity}_id": key}), (goal,))
        return Quest(instruction, Answer((code,)), ((*scene.reads(reads), act),), (goal,), {goal: code}, offered=offered)
