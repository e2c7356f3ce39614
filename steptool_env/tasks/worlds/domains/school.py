"""A school: classes, pupils, teachers and what they need."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer

__all__ = ["SCHOOL"]

_EXAM = {"date": "date", "length": "minutes", "form": "oral|written|practical"}
_PUPIL = {"born": "date", "bag": "kg", "meals": "none|lunch|all"}

SCHOOL = Domain(
    name="school",
    entities={
        "exam": Entity("EX", {"fee": "amount", "code": "code"}, {"pupil": "pupil", "examiner": "teacher", "subject": "subject"}, "an exam", _EXAM),
        "pupil": Entity("PU", {"name": "name", "locker": "code"}, {"course": "course", "parent": "parent"}, "a pupil", _PUPIL),
        "teacher": Entity("TE", {"name": "name", "salary": "amount"}, {"subject": "subject", "lab": "lab"}, "a teacher", {"hired": "date"}),
        "course": Entity("CS", {"number": "code", "budget": "amount"}, {"tutor": "teacher", "lab": "lab"}, "a course", {"level": "basic|advanced|honours"}),
        "subject": Entity("SU", {"code": "code", "grant": "amount"}, {"chair": "teacher", "textbook": "textbook"}, "a subject"),
        "parent": Entity("PA", {"name": "name", "phone": "code"}, {"delegate": "club", "adviser": "teacher"}, "a parent", {"moved": "date"}),
        "lab": Entity("LA", {"pin": "code", "rent": "amount"}, {"warden": "warden", "club": "club"}, "a lab", {"tank": "litres"}),
        "club": Entity("CB", {"president": "name", "fund": "amount"}, {"patron": "warden", "course": "course"}, "a club", {"founded": "date"}),
        "warden": Entity("WA", {"name": "name", "wage": "amount"}, {"textbook": "textbook", "lodge": "lab"}, "a warden", {"week": "hours"}),
        "textbook": Entity("TB", {"price": "amount", "isbn": "code"}, {"reviewer": "parent", "donor": "club"}, "a textbook", {"printed": "date"}),
    },
    changes=(Change("exam", "postpone", "postponed"), Change("lab", "reserve", "reserved"), Change("course", "open", "opened")),
    procedures=(Change("lab", "equip", "equipped", after="reserved"), Change("exam", "waive", "waived", after="postponed")),
    links=(Link("pupil", "move", "course"), Link("exam", "reassign", "examiner")),
    transfers=(Transfer("club", "fund", "funds"),),
)
