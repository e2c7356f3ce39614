"""Hides packages, as if they had never been installed. As ``sitecustomize.py`` on ``PYTHONPATH`` it holds in every Python process below.

``STEPTOOL_TEST_WITHOUT`` names the packages, separated by commas.
"""

from __future__ import annotations

import os
import sys
from typing import Any

HIDDEN = frozenset(os.environ.get("STEPTOOL_TEST_WITHOUT", "").split(","))


class Without:
    """A finder that finds all that another one finds, but not what is hidden."""

    def __init__(self, finder: Any) -> None:
        self.finder = finder

    def find_spec(self, name: str, *args: Any) -> Any:
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
