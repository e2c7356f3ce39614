"""``sft``: supervised fine-tuning on demonstrations; alone, or as the warm start of reinforcement learning.

What it leaves out: packing, learning-rate search, early stopping. The loss is the mean negative log-likelihood of the
demonstrated action tokens; observation tokens are read, never learnt.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from ..config import Config

__all__ = ["train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Fit a model to oracle demonstrations and evaluate it on held-out tasks; arguments as for ``step_ppo.train``."""
    from ..runs.run import Run  # the run's warm start uses ``fit``

    with Run(config, out, resume=resume, console=console) as run:
        run.warm_start()
        after, episodes = run.evaluate("after")
        return run.finish(None, after, episodes)
