"""``Domain``: a small world described as data. Entity types, their attributes and relations, and what can be done to them.

A new domain is one file in ``domains/`` that defines a ``Domain``; its tools are derived (``tools.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
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
        InvalidArgument: A relation or change names a type that does not exist, a prefix stands twice, or a kind is unknown.
    """

    name: str
    entities: Mapping[str, Entity]
    changes: tuple[Change, ...] = field(default=())

    def __post_init__(self) -> None:
        prefixes = [entity.prefix for entity in self.entities.values()]
        if len(set(prefixes)) < len(prefixes):
            raise InvalidArgument(f"domain {self.name!r}: id prefixes must differ, got {prefixes}")
        for name, entity in self.entities.items():
            for relation, target in entity.relations.items():
                if target not in self.entities:
                    raise InvalidArgument(f"domain {self.name!r}: relation {name}.{relation} leads to {target!r}, which is no entity type of it")
            for attribute, kind in entity.attributes.items():
                if kind not in KINDS:
                    raise InvalidArgument(f"domain {self.name!r}: attribute {name}.{attribute} has kind {kind!r}; kinds are {KINDS}")
        for change in self.changes:
            if change.entity not in self.entities:
                raise InvalidArgument(f"domain {self.name!r}: change {change.verb!r} acts on {change.entity!r}, which is no entity type of it")
