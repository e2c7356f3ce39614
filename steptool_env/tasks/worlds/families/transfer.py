"""``transfer``: pass an amount that has to be looked up to somebody who has to be found."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.plan import Step
from steptool_env.tasks.worlds.scene import Misfit, Place, Quest, Scene, Wording
from steptool_env.tasks.worlds.tools import transfer_tool
from steptool_env.types import ToolCall

__all__ = ["Transfer"]

_ASK = Wording(
    seen=(
        "Transfer as much {what} as the {amount} of {first} from {giver} to {second} and report the confirmation.",
        "Look up the {amount} of {first} and transfer that much {what} from {giver} to {second}. Report the confirmation.",
    ),
    unseen=("{second} is to get {what} from {giver}: exactly {first}'s {amount}. Transfer it and tell me the confirmation.",),
)


class Transfer(Family):
    """A chain to the amount, one to the taker, and a change that cannot be undone."""

    name: ClassVar[str] = "transfer"
    least: ClassVar[int] = 3

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return bool(domain.transfers)

    def draw(self, scene: Scene, depth: int) -> Quest:
        rng, entities = scene.rng, scene.domain.entities
        transfer = rng.choice(scene.domain.transfers)
        lengths = scene.split(depth, 2)
        first, kinds, ids = scene.path(lengths[0], [name for name, entity in entities.items() if "amount" in entity.attributes.values()])
        amount = next(name for name, value_kind in entities[kinds[-1]].attributes.items() if value_kind == "amount")
        value = scene.entities[ids[-1]][amount]
        second, types, keys = scene.path(lengths[1], [transfer.entity])
        taker = keys[-1]
        able = [key for key in scene.keys(transfer.entity) if key != taker and scene.entities[key][transfer.amount] >= value]
        if not able:
            raise Misfit
        giver = rng.choice(able)
        code, tool = scene.code(), transfer_tool(transfer)
        goal = ("done", tool, giver, taker, value)
        reads = [*scene.along(kinds, ids, first.relations, amount), *scene.along(types, keys, second.relations)]
        act = Step(ToolCall(tool, {f"from_{transfer.entity}": giver, f"to_{transfer.entity}": taker, "amount": value}), (goal,))
        return Quest(
            instruction=scene.say(_ASK, what=transfer.what, amount=amount, first=first, second=second, giver=Place((), transfer.entity, giver)),
            answer=Answer((code,)),
            ways=((*scene.reads(reads), act),),
            goals=(goal,),
            confirmations={goal: code},
        )
