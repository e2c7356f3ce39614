"""A mail-order shop: orders, customers, products and the people behind them."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer

__all__ = ["SHOP"]

_ORDER = {"placed": "date", "weight": "kg", "state": "new|paid|packed"}
_PRODUCT = {"released": "date", "mass": "kg", "condition": "new|used|damaged"}

SHOP = Domain(
    name="shop",
    entities={
        "order": Entity("O", {"total": "amount", "code": "code"}, {"buyer": "customer", "item": "product", "courier": "courier"}, "an order", _ORDER),
        "customer": Entity("C", {"name": "name", "phone": "code"}, {"store": "store", "card": "card"}, "a customer", {"joined": "date"}),
        "product": Entity("P", {"price": "amount", "code": "code"}, {"supplier": "supplier", "store": "store"}, "a product", _PRODUCT),
        "store": Entity("S", {"name": "name", "phone": "code"}, {"manager": "employee", "supplier": "supplier"}, "a store", {"opened": "date"}),
        "supplier": Entity("U", {"name": "name", "phone": "code"}, {"agent": "employee", "courier": "courier"}, "a supplier"),
        "employee": Entity("E", {"name": "name", "salary": "amount"}, {"card": "card", "office": "store"}, "an employee", {"contract": "fixed|open|trial"}),
        "courier": Entity("K", {"name": "name", "phone": "code"}, {"depot": "store", "agent": "employee"}, "a courier", {"range": "km"}),
        "card": Entity("D", {"pin": "code", "limit": "amount"}, {"holder": "customer", "bank": "supplier"}, "a payment card", {"expiry": "date"}),
    },
    changes=(Change("order", "cancel", "cancelled"), Change("card", "block", "blocked"), Change("product", "recall", "recalled")),
    procedures=(Change("order", "refund", "refunded", after="cancelled"), Change("card", "replace", "replaced", after="blocked")),
    links=(Link("order", "redirect", "courier"), Link("employee", "relocate", "office")),
    transfers=(Transfer("card", "limit", "credit"),),
)
