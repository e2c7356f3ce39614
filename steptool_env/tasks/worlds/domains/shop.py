"""A mail-order shop: orders, customers, products and the people behind them."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity

__all__ = ["SHOP"]

SHOP = Domain(
    name="shop",
    entities={
        "order": Entity("O", {"total": "amount", "code": "code"}, {"buyer": "customer", "item": "product", "courier": "courier"}, "an order"),
        "customer": Entity("C", {"name": "name", "phone": "code"}, {"store": "store", "card": "card"}, "a customer"),
        "product": Entity("P", {"price": "amount", "code": "code"}, {"supplier": "supplier", "store": "store"}, "a product"),
        "store": Entity("S", {"name": "name", "phone": "code"}, {"manager": "employee", "supplier": "supplier"}, "a store"),
        "supplier": Entity("U", {"name": "name", "phone": "code"}, {"agent": "employee", "courier": "courier"}, "a supplier"),
        "employee": Entity("E", {"name": "name", "salary": "amount"}, {"card": "card", "office": "store"}, "an employee"),
        "courier": Entity("K", {"name": "name", "phone": "code"}, {"depot": "store", "agent": "employee"}, "a courier"),
        "card": Entity("D", {"pin": "code", "limit": "amount"}, {"holder": "customer", "bank": "supplier"}, "a payment card"),
    },
    changes=(Change("order", "cancel", "cancelled"), Change("card", "block", "blocked"), Change("product", "recall", "recalled")),
)
