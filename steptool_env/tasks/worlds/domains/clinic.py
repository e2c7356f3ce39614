"""A clinic: visits, patients, doctors and what they prescribe."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link

__all__ = ["CLINIC"]

_VISIT = {"day": "date", "length": "minutes", "urgency": "routine|soon|emergency"}
_PATIENT = {"born": "date", "weight": "kg", "cover": "basic|private|none"}

CLINIC = Domain(
    name="clinic",
    entities={
        "visit": Entity("B", {"fee": "amount", "code": "code"}, {"patient": "patient", "doctor": "doctor", "room": "room"}, "a visit", _VISIT),
        "patient": Entity("I", {"name": "name", "phone": "code"}, {"doctor": "doctor", "insurer": "insurer"}, "a patient", _PATIENT),
        "doctor": Entity("R", {"name": "name", "salary": "amount"}, {"ward": "ward", "mentor": "nurse"}, "a doctor", {"hired": "date"}),
        "ward": Entity("W", {"head": "name", "phone": "code"}, {"nurse": "nurse", "pharmacy": "pharmacy"}, "a ward"),
        "room": Entity("Q", {"code": "code", "rate": "amount"}, {"ward": "ward", "nurse": "nurse"}, "a room", {"equipment": "basic|surgical|isolation"}),
        "nurse": Entity("N", {"name": "name", "wage": "amount"}, {"insurer": "insurer", "locker": "room"}, "a nurse", {"shift": "hours"}),
        "pharmacy": Entity("X", {"owner": "name", "phone": "code"}, {"drug": "drug", "insurer": "insurer"}, "a pharmacy", plural="pharmacies"),
        "drug": Entity("J", {"price": "amount", "code": "code"}, {"tester": "doctor", "store": "pharmacy"}, "a drug", {"approved": "date", "pack": "litres"}),
        "insurer": Entity("Z", {"name": "name", "phone": "code"}, {"partner": "pharmacy", "adviser": "doctor"}, "an insurer"),
    },
    changes=(Change("visit", "close", "closed"), Change("room", "lock", "locked"), Change("drug", "order", "ordered")),
    procedures=(Change("visit", "bill", "billed", after="closed"), Change("room", "disinfect", "disinfected", after="locked")),
    links=(Link("visit", "hand_over", "doctor"), Link("patient", "refer", "doctor")),
)
