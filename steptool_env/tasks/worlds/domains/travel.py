"""A travel agency: trips, flights, hotels and the places they connect."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity

__all__ = ["TRAVEL"]

TRAVEL = Domain(
    name="travel",
    entities={
        "trip": Entity("T", {"price": "amount", "code": "code"}, {"traveller": "traveller", "flight": "flight", "hotel": "hotel"}, "a booked trip"),
        "traveller": Entity("V", {"name": "name", "phone": "code"}, {"home": "city", "guide": "guide"}, "a traveller"),
        "flight": Entity("F", {"fare": "amount", "gate": "code"}, {"airport": "airport", "airline": "airline"}, "a flight"),
        "hotel": Entity("H", {"name": "name", "rate": "amount"}, {"city": "city", "guide": "guide"}, "a hotel"),
        "city": Entity("Y", {"mayor": "name", "zip": "code"}, {"airport": "airport", "museum": "museum"}, "a city"),
        "airport": Entity("A", {"code": "code", "tax": "amount"}, {"airline": "airline", "museum": "museum"}, "an airport"),
        "airline": Entity("L", {"name": "name", "phone": "code"}, {"base": "city", "partner": "hotel"}, "an airline"),
        "museum": Entity("M", {"director": "name", "fee": "amount"}, {"guide": "guide", "sponsor": "airline"}, "a museum"),
        "guide": Entity("G", {"name": "name", "wage": "amount"}, {"favourite": "hotel", "home": "city"}, "a tour guide"),
    },
    changes=(Change("trip", "confirm", "confirmed"), Change("flight", "delay", "delayed"), Change("hotel", "reserve", "reserved")),
)
