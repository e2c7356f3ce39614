"""``Domain``: a small world described as data. Entity types, their attributes and relations, and what can be done to them.

A new domain is one file in ``domains/`` that defines a ``Domain``; its tools are derived (``tools.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from steptool_env.errors import InvalidArgument

__all__ = ["KINDS", "Change", "Domain", "Entity"]

KINDS = ("name", "code", "amount")
"""Kinds of attribute: a first name; a code of four digits; an amount from 100 to 9999. All are hard to guess."""


@dataclass(frozen=True)
class Entity:
    """A type of entity; an instance has an id (the prefix and two digits), attributes and relations to others."""

    prefix: str
    attributes: Mapping[str, str]
    """Attribute -> one of ``KINDS``."""
    relations: Mapping[str, str]
    """Relation -> the entity type that it leads to."""
    about: str = ""
    """What it is, for the tool's description."""


@dataclass(frozen=True)
class Change:
    """Something that can be done to an entity, once; it sets its status and returns a confirmation code."""

    entity: str
    verb: str
    """Imperative, as it stands in an instruction: ``"cancel"``. The tool is called ``<verb>_<entity>``."""
    status: str
    """The status afterwards: ``"cancelled"``."""


@dataclass(frozen=True)
class Domain:
    """A named set of entity types and changes.

    Raises:
        InvalidArgument: A name leads nowhere or stands twice, a kind is unknown, or ids of two types could be mixed up.
    """

    name: str
    entities: Mapping[str, Entity]
    changes: tuple[Change, ...] = field(default=())

    def __post_init__(self) -> None:
        for fault in self._faults():
            raise InvalidArgument(f"domain {self.name!r}: {fault}")

    def _faults(self) -> Iterator[str]:
        if not self.entities:
            yield "it needs an entity type"
        for name, entity in self.entities.items():
            if not (entity.prefix.isascii() and entity.prefix.isalpha()):
                yield f"the id prefix of {name} must be letters, got {entity.prefix!r}"
            for other, second in self.entities.items():
                if other != name and second.prefix.startswith(entity.prefix):
                    yield f"the id prefix of {other}, {second.prefix!r}, begins with that of {name}, {entity.prefix!r}"
            if not entity.attributes:
                yield f"{name} needs an attribute, for something to be asked"
            for attribute, kind in entity.attributes.items():
                if kind not in KINDS:
                    yield f"attribute {name}.{attribute} has kind {kind!r}; kinds are {', '.join(KINDS)}"
            for relation, target in entity.relations.items():
                if target not in self.entities:
                    yield f"relation {name}.{relation} leads to {target!r}, which is no entity type of it"
            for one in (*entity.attributes, *entity.relations):
                if one == "status" or (one in entity.attributes and one in entity.relations):
                    yield f"{name}.{one} would stand twice in a record; 'status' is what changes set"
        for change in self.changes:
            if change.entity not in self.entities:
                yield f"change {change.verb!r} acts on {change.entity!r}, which is no entity type of it"
        tools = [f"{change.verb}_{change.entity}" for change in self.changes] + [f"get_{name}" for name in self.entities]
        if twice := sorted({tool for tool in tools if tools.count(tool) > 1}):
            yield f"two of its tools would be called {twice[0]!r}"
