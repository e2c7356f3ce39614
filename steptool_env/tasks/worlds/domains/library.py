"""A public library: loans, books, readers and branches."""

from __future__ import annotations

from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer

__all__ = ["LIBRARY"]

_LOAN = {"due": "date", "kind": "home|reading|remote"}
_BOOK = {"published": "date", "weight": "kg", "format": "print|audio|braille"}

LIBRARY = Domain(
    name="library",
    entities={
        "loan": Entity("LN", {"fee": "amount", "slip": "code"}, {"reader": "reader", "book": "book", "desk": "branch"}, "a loan", _LOAN),
        "reader": Entity("RD", {"name": "name", "phone": "code"}, {"branch": "branch", "sponsor": "publisher"}, "a reader", {"enrolled": "date"}),
        "book": Entity("BK", {"price": "amount", "shelfmark": "code"}, {"writer": "writer", "publisher": "publisher", "shelf": "shelf"}, "a book", _BOOK),
        "writer": Entity("WR", {"name": "name", "royalty": "amount"}, {"publisher": "publisher", "archive": "shelf"}, "a writer", {"born": "date"}),
        "publisher": Entity("PB", {"name": "name", "phone": "code"}, {"partner": "branch", "editor": "librarian"}, "a publisher"),
        "branch": Entity("BR", {"head": "name", "budget": "amount"}, {"librarian": "librarian", "hall": "hall"}, "a branch", {"opened": "date"}, "branches"),
        "shelf": Entity("SH", {"code": "code", "load": "amount"}, {"hall": "hall", "keeper": "librarian"}, "a shelf", {"built": "date"}, "shelves"),
        "hall": Entity("HL", {"code": "code", "rent": "amount"}, {"guard": "librarian", "display": "book"}, "a hall", {"use": "study|events|storage"}),
        "librarian": Entity("LB", {"name": "name", "salary": "amount"}, {"mentor": "writer", "station": "shelf"}, "a librarian", {"week": "hours"}),
    },
    changes=(Change("loan", "renew", "renewed"), Change("book", "reserve", "reserved"), Change("hall", "close", "closed")),
    procedures=(Change("book", "lend", "lent", after="reserved"), Change("hall", "renovate", "renovated", after="closed")),
    links=(Link("book", "reshelve", "shelf"), Link("reader", "transfer", "branch")),
    transfers=(Transfer("branch", "budget", "budget"),),
)
