"""A clinic: visits, patients, doctors and what they prescribe."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity

__all__ = ["CLINIC"]

CLINIC = Domain(
    name="clinic",
    entities={
        "visit": Entity("B", {"fee": "amount", "code": "code"}, {"patient": "patient", "doctor": "doctor", "room": "room"}, "a visit"),
        "patient": Entity("I", {"name": "name", "phone": "code"}, {"doctor": "doctor", "insurer": "insurer"}, "a patient"),
        "doctor": Entity("R", {"name": "name", "salary": "amount"}, {"ward": "ward", "mentor": "nurse"}, "a doctor"),
        "ward": Entity("W", {"head": "name", "phone": "code"}, {"nurse": "nurse", "pharmacy": "pharmacy"}, "a ward"),
        "room": Entity("Q", {"code": "code", "rate": "amount"}, {"ward": "ward", "nurse": "nurse"}, "a room"),
        "nurse": Entity("N", {"name": "name", "wage": "amount"}, {"insurer": "insurer", "locker": "room"}, "a nurse"),
        "pharmacy": Entity("X", {"owner": "name", "phone": "code"}, {"drug": "drug", "insurer": "insurer"}, "a pharmacy"),
        "drug": Entity("J", {"price": "amount", "code": "code"}, {"tester": "doctor", "store": "pharmacy"}, "a drug"),
        "insurer": Entity("Z", {"name": "name", "phone": "code"}, {"partner": "pharmacy", "adviser": "doctor"}, "an insurer"),
    },
    changes=(Change("visit", "close", "closed"), Change("room", "lock", "locked"), Change("drug", "order", "ordered")),
)
