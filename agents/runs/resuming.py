"""Which settings of a run may change when it is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steptool_env.errors import InvalidArgument

from ..config import Config

__all__ = ["MAY_CHANGE", "check_resumed", "identity"]

MAY_CHANGE = frozenset(
    {
        *("run.updates", "run.budget_steps", "run.budget_tokens", "run.eval_episodes", "run.eval_width", "run.measure", "run.report_to"),
        *("model.device", "model.token_budget", "model.gradient_checkpointing", "model.sharded"),
        *("rollout.cache_budget", "rollout.servers", "rollout.server_model", "rollout.server_folder"),
    }
)
"""The length of a run, where it runs, and how much memory it takes. All other settings affect its results."""


def identity(config: Config) -> dict[str, Any]:
    """Return what a run's results follow from, as JSON holds it: two runs with the same are the same run."""
    return dict(json.loads(json.dumps({name: value for name, value in config.flat().items() if name not in MAY_CHANGE})))


def check_resumed(saved: Config, requested: Config, out: Path) -> None:
    """Raise ``InvalidArgument`` if a resumed run would change settings that must not change; the message names them.

    Args:
        saved: The settings in the run's folder.
        requested: The settings to resume with.
        out: The folder, for the error message.
    """
    before, after = saved.flat(), requested.flat()
    changed = [name for name, value in after.items() if name not in MAY_CHANGE and before[name] != value]
    if changed:
        differences = ", ".join(f"{name} is {before[name]!r} and cannot become {after[name]!r}" for name in changed)
        raise InvalidArgument(
            f"--resume goes on with the settings of {out}: {differences}. To train its policy further with other settings, begin a new run: "
            f"steptool train --from {out} --out FOLDER"
        )
