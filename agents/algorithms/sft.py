"""``sft``: supervised fine-tuning on an oracle's demonstrations, that is, only the warm start of the other algorithms.

What it leaves out: learning-rate search, early stopping. The learning rate has a schedule of its own, see ``learning/imitation.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from ..config import Config
from ..runs.loop import Loop
from ..runs.run import Run

__all__ = ["train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Fit a model to demonstrations and evaluate it on held-out tasks; arguments and report as for ``step_ppo.train``, without ``before``."""
    with Run(config, out, resume=resume, console=console) as run:
        return Loop(run).report()
