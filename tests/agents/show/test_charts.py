"""Charts: valid SVG whatever the numbers and names, every value in its place, and small however long a run was."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptool_agents.show.charts import Dot, Series, intervals, lines, number, percent
from steptool_agents.show.curves import curves
from steptool_agents.show.metrics import METRICS, metric

PLOT = (42.0, 352.0, 8.0, 154.0)
"""Left, right, top and bottom of where lines are drawn."""


def points_of(chart: str) -> list[tuple[float, float]]:
    root = ET.fromstring(chart)
    found = [pair.split(",") for line in root.iter("polyline") for pair in line.attrib["points"].split()]
    return [(float(x), float(y)) for x, y in found] + [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]


def test_a_line_by_hand() -> None:
    chart = lines("Success", [Series("success", [(1.0, 0.0), (2.0, 0.5), (3.0, 1.0)])], share=True)
    assert points_of(chart) == [(42.0, 154.0), (197.0, 81.0), (352.0, 8.0)]
    texts = [text.text for text in ET.fromstring(chart).iter("text")]
    assert texts == ["0%", "25%", "50%", "75%", "100%", "1", "2", "3", "update"]
    assert "success 100%" in chart


def test_what_is_missing_interrupts_a_line() -> None:
    chart = lines("t", [Series("a", [(1.0, 1.0), (2.0, math.nan), (3.0, 2.0), (4.0, 3.0)]), Series("none", [(1.0, math.nan)])])
    root = ET.fromstring(chart)
    assert len(list(root.iter("polyline"))) == len(list(root.iter("circle"))) == 1
    assert "none –" in chart
    assert "No value yet." in lines("t", [Series("a", [])])


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(rows=st.lists(st.lists(numbers, max_size=30), max_size=3), name=st.text(max_size=20), share=st.booleans())
def test_any_numbers_and_names_make_a_chart(rows: Sequence[Sequence[float]], name: str, share: bool) -> None:
    chart = lines(name, [Series(name, [(float(x), y) for x, y in enumerate(row)]) for row in rows], share=share)
    left, right, top, bottom = PLOT
    for x, y in points_of(chart.replace("\0", "")):
        assert left - 0.1 <= x <= right + 0.1 and top - 0.1 <= y <= bottom + 0.1


def test_a_very_long_run_is_thinned_to_means() -> None:
    chart = lines("t", [Series("a", [(float(x), float(x % 2)) for x in range(100_000)])], share=True)
    drawn = points_of(chart)
    assert len(drawn) == 240 and len(chart) < 10_000
    assert all(abs(y - (8 + 154) / 2) < 1.0 for _, y in drawn)  # the mean of 0 and 1


def test_intervals_by_hand() -> None:
    chart = intervals("By depth", ["before", "after"], [("2", [Dot(0.5, 0.25, 0.75), Dot(1.0, 1.0, 1.0)]), ("3", [None, Dot(math.nan, 0, 0)])])
    root = ET.fromstring(chart)
    assert [round(float(dot.attrib["cx"])) for dot in root.iter("circle")] == [227, 346]
    first = next(line for line in root.iter("line") if line.attrib["class"] == "whisker")
    assert (float(first.attrib["x1"]), float(first.attrib["x2"])) == (167.5, 286.5)
    assert [title.text for title in root.iter("title")] == ["50% (25% to 75%)", "100% (100% to 100%)"]


@pytest.mark.parametrize(("value", "said"), [(0.0, "0%"), (0.004, "0.4%"), (0.0946, "9.5%"), (0.5, "50%"), (1.0, "100%"), (math.nan, "–")])
def test_percent(value: float, said: str) -> None:
    assert percent(value) == said


def test_numbers() -> None:
    assert [number(value) for value in (-1234.5, 999999.0, 3e12, 0.00012345)] == ["-1234", "1000k", "3000G", "0.000123"]


# -------------------------------------------------------------------- which charts
def test_one_run_has_its_parts_together_and_several_have_a_line_each() -> None:
    always = {"reward": 1.0, "reward/con": 0.4, "errors/rejected": 0.0}
    updates = [{"update": k, "success": 0.1 * k, **always, "errors/malformed": 0.1 * k, "mine": k} for k in range(4)]
    one = curves([("a", updates)])
    titles = re.findall("<figcaption>(.*?)</figcaption>", one)
    assert titles == ["Success and calls, training tasks", "Reward and its parts, per episode", "Calls with an error, by kind", "mine"]
    assert "malformed 30%" in one and "rejected" not in one and "Your own metrics" in one
    two = curves([("a", updates), ("b", updates[:2])])
    assert re.findall("<figcaption>(.*?)</figcaption>", two) == ["success", "reward", "reward/con", "errors/malformed", "mine"]
    assert "a 30%" in two and "b 10%" in two
    assert "No call had an error." in curves([("a", [{**line, "errors/malformed": 0.0} for line in updates])])
    assert curves([("a", [])]) == '<p class="faint">No updates.</p>'


def test_hostile_names_are_text_and_their_number_is_bounded() -> None:
    line = {"update": 0, **{f"reward/<script>{k}": 1.0 for k in range(1000)}, **{f"<b>{k}": 1.0 for k in range(1000)}}
    page = curves([("a", [line])])
    assert "<script>" not in page and "<b>0" not in page and "&lt;b&gt;0" in page
    assert len(page) < 60_000


def test_every_name_is_in_one_group() -> None:
    names = [found.name for group in METRICS.values() for found in group]
    assert len(names) == len(set(names))
    assert all(metric(name.replace("<part>", "con").replace("<kind>", "rejected").replace("<phase>", "tools")) is not None for name in names)
