"""``Domain``: a small world described as data. Entity types, their attributes and relations, and what can be done to them.

A new domain is one file in ``domains/`` that defines a ``Domain``; its tools are derived (``tools.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from steptool_env.errors import InvalidArgument
from steptool_env.tasks.worlds.values import DETAILS, KINDS, is_options

__all__ = ["KINDS", "Change", "Domain", "Entity", "Link", "Transfer"]


@dataclass(frozen=True)
class Entity:
    """A type of entity; an instance has an id (the prefix and two digits), attributes and relations to others."""

    prefix: str
    attributes: Mapping[str, str]
    """Attribute -> one of ``values.KINDS``."""
    relations: Mapping[str, str]
    """Relation -> the entity type that it leads to."""
    about: str = ""
    """What it is, for the tool's description."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Further attributes -> one of ``values.DETAILS``, or states such as ``"new|paid|sent"``. Only the families that work with
    lists, dates or measures show them; a chain of lookups keeps to the short form."""
    plural: str = ""
    """Its name in the plural; the name with an ``s`` by default."""


@dataclass(frozen=True)
class Change:
    """Something that can be done to an entity, once; it sets its status and returns a confirmation code."""

    entity: str
    verb: str
    """Imperative, as it stands in an instruction: ``"cancel"``. The tool is called ``<verb>_<entity>``."""
    status: str
    """The status afterwards: ``"cancelled"``."""
    after: str = ""
    """The status that it must have before; by default, none."""


@dataclass(frozen=True)
class Link:
    """A relation that can be changed, and changed back: ``<verb>_<entity>`` and ``undo_<verb>_<entity>``."""

    entity: str
    verb: str
    relation: str


@dataclass(frozen=True)
class Transfer:
    """An amount that can be passed from one entity to another of its type, for good: ``transfer_<what>``."""

    entity: str
    amount: str
    """The attribute that goes down there and up here."""
    what: str


@dataclass(frozen=True, eq=False)
class Domain:
    """A named set of entity types and actions.

    Raises:
        InvalidArgument: A name leads nowhere or is used twice, a kind is unknown, or ids of two types could be mixed up.
    """

    name: str
    entities: Mapping[str, Entity]
    changes: tuple[Change, ...] = ()
    """What can be done to an entity as it is."""
    procedures: tuple[Change, ...] = ()
    """What can be done only after something else has been done to it (``Change.after``)."""
    links: tuple[Link, ...] = ()
    transfers: tuple[Transfer, ...] = ()

    def __post_init__(self) -> None:
        for fault in (*self._faults(), *self._faults_of_actions()):
            raise InvalidArgument(f"domain {self.name!r}: {fault}")

    def plural(self, kind: str) -> str:
        """Return the name of a type in the plural."""
        return self.entities[kind].plural or f"{kind}s"

    def _faults(self) -> Iterator[str]:
        if not self.entities:
            yield "it needs an entity type"
        for name, entity in self.entities.items():
            if not (entity.prefix.isascii() and entity.prefix.isalpha()):
                yield f"the id prefix of {name} must be letters, got {entity.prefix!r}"
            for other_name, other_entity in self.entities.items():
                if other_name != name and other_entity.prefix.startswith(entity.prefix):
                    yield f"the id prefix of {other_name}, {other_entity.prefix!r}, begins with that of {name}, {entity.prefix!r}"
            if not entity.attributes:
                yield f"{name} needs an attribute, for something to be asked"
            for attribute, kind in entity.attributes.items():
                if kind not in KINDS:
                    yield f"attribute {name}.{attribute} has kind {kind!r}; kinds are {', '.join(KINDS)}"
            for detail, kind in entity.details.items():
                if kind not in DETAILS and not is_options(kind):
                    yield f"detail {name}.{detail} has kind {kind!r}; kinds are {', '.join(DETAILS)}, or states such as 'new|paid'"
            for relation, target in entity.relations.items():
                if target not in self.entities:
                    yield f"relation {name}.{relation} leads to {target!r}, which is no entity type of it"
            fields = [*entity.attributes, *entity.details, *entity.relations]
            for field_name in fields:
                if field_name in ("status", "page") or fields.count(field_name) > 1:
                    yield f"{name}.{field_name} would stand twice in a record; 'status' is what changes set, 'page' is a part of a list"

    def _faults_of_actions(self) -> Iterator[str]:
        for change in (*self.changes, *self.procedures):
            if change.entity not in self.entities:
                yield f"change {change.verb!r} acts on {change.entity!r}, which is no entity type of it"
        for change in self.procedures:
            if not any(earlier.entity == change.entity and earlier.status == change.after for earlier in self.changes):
                yield f"procedure {change.verb!r} comes after {change.after!r}, which no change of {change.entity} leads to"
        if wrong := [change.verb for change in self.changes if change.after]:
            yield f"change {wrong[0]!r} comes after something, so it belongs into procedures"
        for link in self.links:
            if link.relation not in (self.entities[link.entity].relations if link.entity in self.entities else ()):
                yield f"link {link.verb!r} changes {link.entity}.{link.relation}, which is no relation of it"
        for transfer in self.transfers:
            if (self.entities[transfer.entity].attributes.get(transfer.amount) if transfer.entity in self.entities else "") != "amount":
                yield f"transfer of {transfer.what} needs an amount, {transfer.entity}.{transfer.amount} is none"
        verbs: tuple[Change | Link, ...] = (*self.changes, *self.procedures, *self.links)
        acts = [f"{act.verb}_{act.entity}" for act in verbs]
        tools = acts + [f"get_{name}" for name in self.entities]
        if twice := sorted({tool for tool in tools if tools.count(tool) > 1}):
            yield f"two of its tools would be called {twice[0]!r}"
