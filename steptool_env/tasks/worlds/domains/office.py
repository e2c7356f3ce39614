"""An office: its calendar, its mail, and the people, projects and rooms that they are about."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer

__all__ = ["OFFICE"]

_EVENT = {"day": "date", "length": "minutes", "series": "single|weekly|monthly"}
_MAIL = {"sent": "date", "folder": "inbox|work|later"}

OFFICE = Domain(
    name="office",
    entities={
        "event": Entity("EV", {"cost": "amount", "code": "code"}, {"host": "person", "room": "room", "project": "project"}, "a calendar event", _EVENT),
        "mail": Entity("ML", {"ticket": "code", "quote": "amount"}, {"sender": "person", "event": "event", "project": "project"}, "a mail", _MAIL),
        "person": Entity("PE", {"name": "name", "extension": "code"}, {"team": "team", "desk": "room"}, "a person", {"joined": "date"}, "people"),
        "team": Entity(
            "TM", {"lead": "name", "budget": "amount"}, {"project": "project", "assistant": "assistant"}, "a team", {"mode": "onsite|hybrid|remote"}
        ),
        "project": Entity("PR", {"code": "code", "volume": "amount"}, {"customer": "customer", "room": "room"}, "a project", {"deadline": "date"}),
        "room": Entity(
            "RO", {"pin": "code", "rent": "amount"}, {"building": "building", "keeper": "assistant"}, "a meeting room", {"screen": "none|small|large"}
        ),
        "customer": Entity("CU", {"name": "name", "phone": "code"}, {"contact": "person", "site": "building"}, "a customer"),
        "building": Entity("BU", {"code": "code", "tax": "amount"}, {"janitor": "assistant", "tenant": "team"}, "a building", {"built": "date"}),
        "assistant": Entity("AS", {"name": "name", "wage": "amount"}, {"boss": "person", "office": "room"}, "an assistant", {"week": "hours"}),
    },
    changes=(Change("event", "cancel", "cancelled"), Change("mail", "archive", "archived"), Change("room", "book", "booked")),
    procedures=(Change("mail", "delete", "deleted", after="archived"), Change("room", "prepare", "prepared", after="booked")),
    links=(Link("event", "move", "room"), Link("person", "reassign", "team")),
    transfers=(Transfer("team", "budget", "means"),),
)
