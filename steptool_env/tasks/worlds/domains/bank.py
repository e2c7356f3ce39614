"""A bank: accounts, clients, loans, invoices and those who handle them."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer

__all__ = ["BANK"]

_ACCOUNT = {"opened": "date", "type": "current|savings|joint"}
_INVOICE = {"issued": "date", "due": "date", "state": "draft|sent|disputed"}

BANK = Domain(
    name="bank",
    entities={
        "account": Entity("AC", {"balance": "amount", "pin": "code"}, {"owner": "client", "branch": "branch"}, "an account", _ACCOUNT),
        "client": Entity("CL", {"name": "name", "phone": "code"}, {"adviser": "adviser", "account": "account"}, "a client", {"born": "date"}),
        "loan": Entity(
            "LO", {"sum": "amount", "code": "code"}, {"borrower": "client", "guarantor": "company", "officer": "adviser"}, "a loan", {"start": "date"}
        ),
        "invoice": Entity("IN", {"total": "amount", "code": "code"}, {"payer": "company", "payee": "account", "loan": "loan"}, "an invoice", _INVOICE),
        "company": Entity("CO", {"head": "name", "tax": "code"}, {"account": "account", "auditor": "auditor"}, "a company", {"founded": "date"}, "companies"),
        "branch": Entity("BR", {"manager": "name", "phone": "code"}, {"auditor": "auditor", "vault": "vault"}, "a branch", {"area": "km"}, "branches"),
        "adviser": Entity(
            "AD", {"name": "name", "salary": "amount"}, {"branch": "branch", "deputy": "auditor"}, "an adviser", {"rank": "junior|senior|partner"}
        ),
        "auditor": Entity("AU", {"name": "name", "wage": "amount"}, {"vault": "vault", "employer": "company"}, "an auditor", {"week": "hours"}),
        "vault": Entity("VA", {"code": "code", "cover": "amount"}, {"keyholder": "adviser", "insurer": "company"}, "a vault", {"gold": "kg"}),
    },
    changes=(Change("account", "freeze", "frozen"), Change("loan", "approve", "approved"), Change("invoice", "settle", "settled")),
    procedures=(Change("loan", "disburse", "disbursed", after="approved"), Change("account", "close", "closed", after="frozen")),
    links=(Link("client", "reassign", "adviser"), Link("loan", "hand_over", "officer")),
    transfers=(Transfer("account", "balance", "money"),),
)
