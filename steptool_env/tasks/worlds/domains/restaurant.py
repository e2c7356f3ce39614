"""A restaurant: bookings, dishes, the kitchen and those who supply it."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer

__all__ = ["RESTAURANT"]

_BOOKING = {"day": "date", "stay": "minutes", "area": "hall|garden|bar"}
_DISH = {"added": "date", "portion": "kg", "diet": "meat|fish|vegan"}

RESTAURANT = Domain(
    name="restaurant",
    entities={
        "booking": Entity("BO", {"deposit": "amount", "code": "code"}, {"guest": "guest", "table": "table", "menu": "menu"}, "a booking", _BOOKING),
        "guest": Entity("GU", {"name": "name", "phone": "code"}, {"favourite": "dish", "waiter": "waiter"}, "a guest", {"born": "date"}),
        "table": Entity("TA", {"pager": "code", "minimum": "amount"}, {"waiter": "waiter", "section": "section"}, "a table", {"shape": "round|square|long"}),
        "menu": Entity("ME", {"price": "amount", "print": "code"}, {"starter": "dish", "author": "cook"}, "a menu", {"valid": "date"}),
        "dish": Entity("DH", {"cost": "amount", "recipe": "code"}, {"cook": "cook", "supplier": "farm"}, "a dish", _DISH, "dishes"),
        "waiter": Entity("WT", {"name": "name", "wage": "amount"}, {"section": "section", "mentor": "cook"}, "a waiter", {"week": "hours"}),
        "cook": Entity("CH", {"name": "name", "salary": "amount"}, {"station": "station", "farm": "farm"}, "a cook", {"hired": "date"}),
        "section": Entity("SC", {"key": "code", "turnover": "amount"}, {"head": "cook", "station": "station"}, "a section"),
        "station": Entity("ST", {"serial": "code", "stock": "amount"}, {"cleaner": "waiter", "farm": "farm"}, "a kitchen station", {"boiler": "litres"}),
        "farm": Entity("FA", {"owner": "name", "phone": "code"}, {"contact": "guest", "buyer": "section"}, "a farm", {"distance": "km"}),
    },
    changes=(Change("booking", "confirm", "confirmed"), Change("table", "block", "blocked"), Change("dish", "withdraw", "withdrawn")),
    procedures=(Change("booking", "seat", "seated", after="confirmed"), Change("dish", "replace", "replaced", after="withdrawn")),
    links=(Link("booking", "reseat", "table"), Link("waiter", "reassign", "section")),
    transfers=(Transfer("station", "stock", "ingredients"),),
)
