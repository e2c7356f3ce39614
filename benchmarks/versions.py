"""This version of the package beside another one, whose checkout lies in a folder: the same script in processes of their own, in turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import steptool_env

__all__ = ["ratios", "table"]


def ratios(script: str, arguments: Sequence[str], folder: Path, pairs: int) -> dict[str, dict[str, float]]:
    """Return the ratios of this version to another one.

    Args:
        script: Prints one JSON object of figures of the version that it imports, the less the better.
        arguments: Of the script.
        folder: The other version's checkout.
        pairs: How often each of the two runs.

    Returns:
        Of each figure: the lowest of both sides, the median of the ratios of pairs, and the ratio of the lowest.
    """
    sides = {"other": folder.resolve(), "this": Path(steptool_env.__file__).parents[1]}
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as links:
        for side, root in sides.items():
            (Path(links) / side).mkdir()
            for package, place in (("steptool_env", "steptool_env"), ("steptool_agents", "agents")):
                (Path(links) / side / package).symlink_to(root / place)
        for pair in range(pairs):
            for side in list(sides)[:: 1 if pair % 2 else -1]:
                environment = {**os.environ, "PYTHONPATH": str(Path(links) / side)}
                ended = subprocess.run([sys.executable, script, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True)
                found[side].append(json.loads(ended.stdout))
    rows = {}
    for name in found["this"][0]:
        this, other = ([figures[name] for figures in found[side]] for side in ("this", "other"))
        ratio = statistics.median(mine / theirs for mine, theirs in zip(this, other, strict=True))
        rows[name] = {"other": min(other), "this": min(this), "ratio": ratio, "best": min(this) / min(other)}
    return rows


def table(rows: dict[str, dict[str, float]], unit: str) -> str:
    """Return the ratios as lines of text."""
    lines = [f"{'':<33} {f'other, {unit}':>11} {f'this, {unit}':>10}   ratio, median of pairs   ratio of the best"]
    lines += [f"{name:<33} {row['other']:>11.2f} {row['this']:>10.2f} {row['ratio']:>24.3f} {row['best']:>19.3f}" for name, row in rows.items()]
    return "\n".join(lines)
