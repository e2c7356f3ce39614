"""``Scene``: what a task family works with while it draws a task. The world, paths through it, and the words for them."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Change, Domain
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.plan import Fact, Step, Way, page_fact
from steptool_env.tasks.worlds.tools import list_tool, lookup, lookup_tool
from steptool_env.tasks.worlds.values import hashed, table
from steptool_env.types import ToolCall

__all__ = ["Misfit", "Place", "Quest", "Scene", "Wording"]


class Misfit(Exception):
    """What was drawn makes no task of this family, for example because two amounts are equal: draw again."""


@dataclass(frozen=True, slots=True)
class Place:
    """An entity as the instruction names it: by relations from one whose id it gives. Relations in the order of the calls."""

    relations: tuple[str, ...]
    kind: str
    key: str

    def say(self, possessive: bool) -> str:
        """Return "the manager of the store of order O12" or, possessive, "order O12's store's manager"."""
        if possessive:
            return "'s ".join([f"{self.kind} {self.key}", *self.relations])
        return " of ".join([*(f"the {relation}" for relation in reversed(self.relations)), f"{self.kind} {self.key}"])


@dataclass(frozen=True, slots=True)
class Wording:
    """Paraphrases of one request: those that are trained on, and those that are kept for the split ``paraphrases``.

    Placeholders are filled by ``Scene.say``. Unseen paraphrases also name entities in another way (``Place``).
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quest:
    """What a family has drawn: the request, its answer, and the ways that lead to it."""

    instruction: str
    answer: Answer
    ways: tuple[Way, ...]
    goals: tuple[Fact, ...] = ()
    confirmations: Mapping[Fact, str] = field(default_factory=dict)
    statuses: Mapping[str, str] = field(default_factory=dict)
    offered: tuple[str, ...] = ()
    """Tools that must be on offer beside those of the first way."""


class Scene:
    """A world in the making. Families may still change its records, before anything is read from them.

    Args:
        rng: What everything is drawn from.
        domain: What the world is made of.
        dials: How hard the task is.
        name: The task's id.
        rich: Whether records show their details.
    """

    def __init__(self, rng: random.Random, domain: Domain, dials: Dials, name: str, rich: bool) -> None:
        self.rng, self.domain, self.dials, self.name, self.rich = rng, domain, dials, name, rich
        self.details: dict[Fact, Any] = {}

    # ---------------------------------------------------------------- entities
    @functools.cached_property
    def ids(self) -> dict[str, list[str]]:
        """Type -> ids of its entities."""
        return self._world[0]

    @functools.cached_property
    def entities(self) -> dict[str, dict[str, Any]]:
        """Id -> record."""
        return self._world[1]

    @functools.cached_property
    def _world(self) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
        """Ids and records; drawn when they are first asked for."""
        bits = self.rng.getrandbits
        ids = {kind: _ids(bits, entity.prefix, self.dials.entities) for kind, entity in self.domain.entities.items()}
        records: dict[str, dict[str, Any]] = {}
        for kind, entity in self.domain.entities.items():
            columns = [(name, table(value_kind)) for name, value_kind in entity.attributes.items()]
            columns += [(name, ids[target]) for name, target in entity.relations.items()]
            fields = [(name, values, len(values), len(values).bit_length()) for name, values in columns]
            for key in ids[kind]:
                records[key] = record = {}
                for name, values, size, width in fields:  # rng.choice(values), without its overhead: most of a task's time is spent here
                    while (drawn := bits(width)) >= size:
                        pass
                    record[name] = values[drawn]
        return ids, records

    def keys(self, kind: str) -> list[str]:
        """Return the ids of all entities of a type."""
        return self.ids[kind]

    def value(self, kind: str, key: str, field: str) -> Any:
        """Return what a field holds, details included."""
        if field in self.entities[key]:
            return self.entities[key][field]
        if (key, field) in self.details:
            return self.details[key, field]
        values = table(self.domain.entities[kind].details[field])
        return values[hashed(self.name, key, field) % len(values)]

    # ---------------------------------------------------------------- paths
    def walk(self, length: int, ends: Sequence[Change] | None = None) -> tuple[list[str], list[str], Change | None]:
        """Draw a path over ``length`` entity types that all differ, by walking at random; one that ends at something to change.

        Raises:
            Misfit: There is none.
        """
        rng, entities = self.rng, self.domain.entities
        possible = _paths(self.domain, length, frozenset(entities if ends is None else (change.entity for change in ends)), "")
        if not possible:
            raise Misfit
        if length > 6:  # too rare to be found by walking
            names, chain = rng.choice(possible)
            return [*names], [*chain], rng.choice([change for change in ends if change.entity == names[-1]]) if ends is not None else None
        while True:  # paths of six: at least one walk in fifteen gets there
            kinds, relations = [rng.choice(list(entities))], list[str]()
            while len(kinds) < length:
                ways = [(name, target) for name, target in entities[kinds[-1]].relations.items() if name not in relations and target not in kinds]
                if not ways:
                    break
                relation, target = rng.choice(ways)
                kinds.append(target)
                relations.append(relation)
            changes = [change for change in ends or () if change.entity == kinds[-1]]
            if len(kinds) == length and (ends is None or changes):
                return kinds, relations, rng.choice(changes) if ends is not None else None

    def path(self, length: int, ends: Collection[str], without: str = "") -> tuple[Place, list[str], list[str]]:
        """Draw a path over ``length`` types that ends at one of ``ends`` and avoids one type, and an entity where it begins.

        Returns:
            The place at its end, the types and the ids along it.

        Raises:
            Misfit: There is none.
        """
        possible = _paths(self.domain, length, frozenset(ends), without)
        if not possible:
            raise Misfit
        kinds, relations = self.rng.choice(possible)
        ids = [self.rng.choice(self.keys(kinds[0]))]
        for relation in relations:
            ids.append(self.entities[ids[-1]][relation])
        return Place(relations, kinds[0], ids[0]), [*kinds], ids

    def split(self, total: int, parts: int) -> list[int]:
        """Draw ``parts`` positive numbers that sum to ``total``."""
        if total < parts:
            raise Misfit
        cuts = sorted(self.rng.sample(range(1, total), parts - 1))
        return [after - before for before, after in itertools.pairwise([0, *cuts, total])]

    # ---------------------------------------------------------------- steps
    def reads(self, facts: Iterable[tuple[str, str, str]]) -> list[Step]:
        """Return the calls that read these (type, id, field), each one once; in the order in which an id is first needed."""
        steps: dict[tuple[str, str, str | None], list[Fact]] = {}
        for kind, key, name in facts:
            wanted = steps.setdefault((kind, key, name if self.dials.replies == "field" else None), [])
            if (key, name) not in wanted:
                wanted.append((key, name))
        return [Step(lookup(kind, key, name), tuple(wanted)) for (kind, key, name), wanted in steps.items()]

    def along(self, kinds: Sequence[str], ids: Sequence[str], relations: Sequence[str], last: str | None = None) -> list[tuple[str, str, str]]:
        """Return the (type, id, field) that are read along a path, and a field of the entity at its end."""
        reads = list(zip(kinds, ids, relations, strict=False))
        return [*reads, (kinds[-1], ids[-1], last)] if last is not None else reads

    def listing(self, kind: str, filters: Mapping[str, str], chain: Sequence[tuple[str, str, str]], wanted: Sequence[tuple[str, str, str]]) -> tuple[Way, ...]:
        """Return the ways to learn which entities fit all filters, and then some fields of them; the best one first.

        One may list by all filters at once, or by some of them, and read the other fields of what is listed.
        """
        ways: list[Way] = []
        tool = list_tool(self.domain, kind)
        fits = {key: [name for name, value in filters.items() if self.value(kind, key, name) == value] for key in sorted(self.keys(kind))}
        for size in range(len(filters), -1, -1):  # how many filters are used
            for names in itertools.combinations(filters, size):
                applied, rest = {name: filters[name] for name in names}, [name for name in filters if name not in names]
                further: list[tuple[str, str, str]] = []
                found = [key for key, fitting in fits.items() if all(name in fitting for name in names)]
                for key in found:
                    failing = [name for name in rest if name not in fits[key]]
                    further += [(kind, key, name) for name in failing[:1] or rest]
                pages = [
                    Step(ToolCall(tool, {**applied, **({"page": page} if page > 1 else {})}), (page_fact(kind, applied, page),))
                    for page in range(1, max(1, -(-len(found) // self.dials.page)) + 1)
                ]
                ways.append((*self.reads(chain), *pages, *self.reads([*further, *wanted])))
        return tuple(sorted(ways, key=len))

    # ---------------------------------------------------------------- words
    def say(self, wording: Wording, **words: Any) -> str:
        """Draw a paraphrase and fill it; words may be places, (attribute, place), or lists of them, which are joined with "and"."""
        seen = () if self.dials.wording == "unseen" else wording.seen
        template = self.rng.choice((*seen, *(() if self.dials.wording == "seen" else wording.unseen)))
        possessive = template in wording.unseen
        filled = {name: _phrase(word, possessive) for name, word in words.items()}
        return template.format(**filled, **{name.capitalize(): text[:1].upper() + text[1:] for name, text in filled.items() if name == "verb"})

    def tools(self, kinds: Iterable[str]) -> tuple[str, ...]:
        """Return the names of the tools that read these types."""
        return tuple(lookup_tool(kind) for kind in kinds)

    def code(self) -> str:
        """Draw a confirmation code."""
        return str(self.rng.randint(1000, 9999))


def _ids(bits: Callable[[int], int], prefix: str, count: int) -> list[str]:
    """Draw ``count`` different ids of two digits, at most 90: rng.sample, without its overhead."""
    numbers: dict[int, None] = {}
    for _ in range(count):
        while (number := bits(7)) >= 90 or number in numbers:
            pass
        numbers[number] = None
    return [f"{prefix}{number + 10}" for number in numbers]


def _phrase(word: Any, possessive: bool) -> str:
    if isinstance(word, Place):
        return word.say(possessive)
    if isinstance(word, tuple):
        attribute, place = word
        return f"{place.say(True)}'s {attribute}" if possessive else f"the {attribute} of {place.say(False)}"
    if isinstance(word, list):
        texts = [_phrase(item, possessive) for item in word]
        return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]
    return str(word).replace("_", " ")


@functools.cache
def _paths(domain: Domain, length: int, ends: frozenset[str], without: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    return tuple(path for path in _all_paths(domain, length) if path[0][-1] in ends and without not in path[0])


@functools.cache
def _all_paths(domain: Domain, length: int) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Return the (types, relations) of all paths whose types, and whose relations, all differ."""
    if length == 1:
        return tuple(((kind,), ()) for kind in domain.entities)
    return tuple(
        ((*kinds, target), (*relations, name))
        for kinds, relations in _all_paths(domain, length - 1)
        for name, target in domain.entities[kinds[-1]].relations.items()
        if target not in kinds and name not in relations
    )
