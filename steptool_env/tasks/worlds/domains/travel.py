"""A travel agency: trips, flights, hotels and the places they connect."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link

__all__ = ["TRAVEL"]

_TRIP = {"departure": "date", "class": "economy|comfort|first"}
_FLIGHT = {"date": "date", "duration": "minutes", "distance": "km", "meal": "none|snack|dinner"}

TRAVEL = Domain(
    name="travel",
    entities={
        "trip": Entity("T", {"price": "amount", "code": "code"}, {"traveller": "traveller", "flight": "flight", "hotel": "hotel"}, "a booked trip", _TRIP),
        "traveller": Entity("V", {"name": "name", "phone": "code"}, {"home": "city", "guide": "guide"}, "a traveller", {"birthday": "date"}),
        "flight": Entity("F", {"fare": "amount", "gate": "code"}, {"airport": "airport", "airline": "airline"}, "a flight", _FLIGHT),
        "hotel": Entity("H", {"name": "name", "rate": "amount"}, {"city": "city", "guide": "guide"}, "a hotel", {"board": "none|half|full"}),
        "city": Entity("Y", {"mayor": "name", "zip": "code"}, {"airport": "airport", "museum": "museum"}, "a city", {"founded": "date"}, "cities"),
        "airport": Entity("A", {"code": "code", "tax": "amount"}, {"airline": "airline", "museum": "museum"}, "an airport", {"runway": "km"}),
        "airline": Entity("L", {"name": "name", "phone": "code"}, {"base": "city", "partner": "hotel"}, "an airline"),
        "museum": Entity("M", {"director": "name", "fee": "amount"}, {"guide": "guide", "sponsor": "airline"}, "a museum"),
        "guide": Entity("G", {"name": "name", "wage": "amount"}, {"favourite": "hotel", "home": "city"}, "a tour guide", {"licence": "local|national|expired"}),
    },
    changes=(Change("trip", "confirm", "confirmed"), Change("flight", "delay", "delayed"), Change("hotel", "reserve", "reserved")),
    procedures=(Change("trip", "insure", "insured", after="confirmed"), Change("hotel", "upgrade", "upgraded", after="reserved")),
    links=(Link("trip", "rebook", "flight"), Link("traveller", "reassign", "guide")),
)
