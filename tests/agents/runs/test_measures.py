"""A user's own metrics."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from viewed import EPISODES

from steptool_agents.runs.measures import own_measure
from steptool_env.errors import InvalidArgument

OWN = """
import numpy as np

def measure(episodes):
    return {"longest": np.int64(max(len(episode.steps) for episode in episodes)), "none": float("inf")}

def clash(episodes):
    return {"success": 1.0}

def text(episodes):
    return {"mine": "much"}

def nothing(episodes):
    return None

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(OWN)
    return str(tmp_path / "mine.py")


def test_a_measure_of_ones_own(own: str) -> None:
    measure = own_measure(own)
    assert measure is not None
    found = measure(EPISODES, {"success": 0.5})
    assert found["longest"] == 2.0 and type(found["longest"]) is float and math.isnan(found["none"])
    assert own_measure("") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clash", "returned the name 'success', which a run logs itself"),
        ("text", "must return numbers, got 'much' for 'mine'"),
        ("nothing", "must return a mapping of names to numbers, got None"),
        ("number", "must be a function that takes the episodes of an update, got 3"),
        ("missing", "has no 'missing'"),
    ],
)
def test_what_is_none(own: str, name: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        measure = own_measure(f"{own}:{name}")
        assert measure is not None
        measure(EPISODES, {"success": 0.5})
