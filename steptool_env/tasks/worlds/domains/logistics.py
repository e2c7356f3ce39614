"""Logistics: shipments, vehicles, warehouses and the routes between them."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer

__all__ = ["LOGISTICS"]

_SHIPMENT = {"sent": "date", "weight": "kg", "state": "waiting|moving|customs"}
_ROUTE = {"length": "km", "duration": "hours", "surface": "road|rail|water"}

LOGISTICS = Domain(
    name="logistics",
    entities={
        "shipment": Entity("SM", {"value": "amount", "seal": "code"}, {"truck": "truck", "sender": "firm", "target": "warehouse"}, "a shipment", _SHIPMENT),
        "truck": Entity("TR", {"plate": "code", "toll": "amount"}, {"driver": "driver", "route": "route", "garage": "depot"}, "a truck", {"tank": "litres"}),
        "driver": Entity("DR", {"name": "name", "wage": "amount"}, {"employer": "firm", "depot": "depot"}, "a driver", {"licensed": "date"}),
        "route": Entity("RT", {"number": "code", "fee": "amount"}, {"start": "warehouse", "end": "depot"}, "a route", _ROUTE),
        "warehouse": Entity("WH", {"stock": "amount", "gate": "code"}, {"clerk": "clerk", "operator": "firm"}, "a warehouse", {"built": "date"}),
        "firm": Entity("FM", {"head": "name", "phone": "code"}, {"depot": "depot", "agent": "clerk"}, "a firm", {"founded": "date"}),
        "depot": Entity("DE", {"code": "code", "rent": "amount"}, {"foreman": "clerk", "crane": "crane"}, "a depot"),
        "clerk": Entity("CK", {"name": "name", "salary": "amount"}, {"crane": "crane", "deputy": "driver"}, "a clerk", {"team": "early|late|night"}),
        "crane": Entity("CR", {"serial": "code", "price": "amount"}, {"operator": "driver", "site": "warehouse"}, "a crane", {"lift": "kg"}),
    },
    changes=(Change("shipment", "hold", "held"), Change("truck", "ground", "grounded"), Change("crane", "test", "tested")),
    procedures=(Change("crane", "certify", "certified", after="tested"), Change("shipment", "inspect", "inspected", after="held")),
    links=(Link("shipment", "reload", "truck"), Link("driver", "relocate", "depot")),
    transfers=(Transfer("warehouse", "stock", "stock"),),
)
