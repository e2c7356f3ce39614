"""What both sides play and learn; it is handed to their processes as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """An update of GRPO, and how many of them."""

    suite: dict[str, Any]
    """Keywords of ``worlds``."""
    updates: int
    groups: int = 2
    group: int = 8
    """Episodes of a task."""
    max_steps: int = 4
    """Most turns of an episode."""
    new_tokens: int = 64
    """Most that are written in a turn."""
    rank: int = 8
    """Of LoRA."""
    lr: float = 1e-5
    budget: int = 4096
    """Tokens in one pass of learning, here; there, rows are as many as fit."""
    rows: int = 4
    """Rows in one pass of learning, there."""
    completion: int = 1024
    """Most tokens behind a prompt, there."""
    dtype: str = "float32"
    threads: int = 2

    def tasks(self, update: int) -> range:
        """Return the tasks of an update."""
        return range(update * self.groups, (update + 1) * self.groups)

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return a plan from its text."""
        return cls(**json.loads(text))
