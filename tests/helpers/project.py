"""Where the project's files are, for tests that look at them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BENCHMARKS", "CALL_CASES", "HELPERS", "RELEASED", "ROOT", "STABLETOOLBENCH"]

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
HELPERS = ROOT / "tests" / "helpers"
_DATA = Path(os.environ.get("STEPTOOL_DATA") or ROOT.parent / "shared" / "data")
RELEASED, STABLETOOLBENCH = _DATA / "steptool_release", _DATA / "stabletoolbench"
"""Files of the paper's release and of StableToolBench, which are not part of the project; tests that need them are skipped without."""
CALL_CASES = _DATA / "tool_call_cases.jsonl"
"""Replies with the calls that other readers find in them; no part of the project either."""
