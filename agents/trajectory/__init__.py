"""The results of rollouts: generations, steps and trajectories, relabeling of their rewards, and their files."""

from __future__ import annotations

from .jsonl import from_lines, read_jsonl, to_lines, write_jsonl
from .relabel import in_hindsight, relabel, relabel_all
from .types import Generation, Step, Trajectory

__all__ = ["Generation", "Step", "Trajectory", "from_lines", "in_hindsight", "read_jsonl", "relabel", "relabel_all", "to_lines", "write_jsonl"]
