"""What a script has done is kept in files, and not done again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steptool_env.files import write_json

__all__ = ["once"]


def once(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a file holds, which is made if there is none; ``seconds``, what it took, is added."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        made = make()
        write_json(file, {**made, "seconds": time.perf_counter() - started})
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
