"""The table and the picture that a run leaves behind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from steptool_agents.show.curve import draw_curve, learning_curve
from steptool_agents.show.tables import table

TAGS = {"depth=1": {"episodes": 2, "success": 1.0}, "depth=2": {"episodes": 2, "success": 0.5}, "family=look": {"episodes": 4, "success": 0.75}}


def measured(success: float, by_tag: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "episodes": 4,
        "success": success,
        "success_low": success - 0.25,
        "success_high": success + 0.125,
        "call_success": 0.9,
        "call_accuracy": success / 2,
        "steps": 2 + success,
        "reward": 1.0,
        "unfinished": 0.0,
        "masked": 0,
        "by_tag": TAGS if by_tag is None else by_tag,
    }


METRICS = [{"update": k, "success": 0.1 * k, "call_accuracy": 0.2} for k in range(5)]


def text(report: dict[str, Any]) -> list[str]:
    console = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table(report))
    return [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in console.export_text().splitlines()]


def test_before_and_after() -> None:
    before = measured(0.5, {"depth=1": {"episodes": 4, "success": 0.5}})
    lines = text({"before": before, "after": measured(0.75)})
    assert "4 held-out tasks" in lines
    assert "warm start after RL change" in lines
    # Half of each success is the call accuracy: 25 % and 37.5 %; steps are 2 more than the success.
    assert "success 50.0% (25% to 62%) 75.0% (50% to 88%) +25.0" in lines
    assert "call accuracy 25.0% 37.5% +12.5" in lines
    assert "calls without mistake 90.0% 90.0% +0.0" in lines
    assert "steps per episode 2.50 2.75 +0.25" in lines
    assert "success, depth 1 50.0% 100.0% +50.0" in lines
    assert "success, depth 2 - 50.0%" in lines  # nothing to compare with


def test_a_result_alone() -> None:
    lines = text({"before": None, "after": measured(0.75)})
    assert "result" in lines
    assert "success 75.0% (50% to 88%)" in lines
    assert "success, family look 75.0%" in lines


def test_tasks_without_tags() -> None:
    assert not any("," in line for line in text({"before": None, "after": measured(0.5, {})}))


@pytest.mark.parametrize("with_before", [True, False])
@pytest.mark.parametrize("tags", [TAGS, {"category=x": {"episodes": 4, "success": 0.5}}, {}], ids=["depths", "others", "none"])
def test_the_picture(tmp_path: Path, with_before: bool, tags: dict[str, Any]) -> None:
    report = {"before": measured(0.25, tags) if with_before else None, "after": measured(0.5, tags), "updates": 5}
    learning_curve(METRICS, report, tmp_path / "curve.png")
    data = (tmp_path / "curve.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 5000


def test_nothing_in_the_picture_hides_anything() -> None:
    tags = {tag: {"episodes": 4, "success": 0.5} for tag in ("domain=clinic", "domain=travel", "family=change", "family=lookup")}
    for by_tag in (TAGS, tags):
        figure = draw_curve(METRICS, {"before": measured(0.0, by_tag), "after": measured(1.0, by_tag), "updates": 5})
        figure.draw_without_rendering()
        for axes in figure.axes:
            legend = axes.get_legend()
            assert legend is not None
            names = [label.get_window_extent() for label in axes.get_xticklabels() if axes.get_xlim()[0] <= label.get_position()[0] <= axes.get_xlim()[1]]
            assert len(names) >= 2
            boxes = [axes.get_window_extent(), legend.get_window_extent(), axes.xaxis.label.get_window_extent(), *names]
            assert not [(one, other) for place, one in enumerate(boxes) for other in boxes[:place] if one.width and other.width and one.overlaps(other)]
        left, right = (axes.get_legend().get_window_extent() for axes in figure.axes)
        assert left.x0 >= 0 and left.x1 < right.x0


def test_an_interval_that_rounding_put_beside_its_mean(tmp_path: Path) -> None:
    after = {**measured(0.3), "success_low": 0.30000000000000004, "success_high": 0.29999999999999993}
    learning_curve(METRICS, {"before": None, "after": after, "updates": 5}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size


def test_faults_of_others_are_shown_where_there_were_some_and_a_title_says_what_was_played() -> None:
    after = measured(0.75) | {"faults": {"model": 0.5, "environment": 0.2, "author": 0.0, "infrastructure": 0.0}}
    lines = text({"before": None, "after": after})
    assert "calls failed by the environment's fault 20.0%" in lines
    assert not any("author" in line for line in lines)
    assert not any("fault" in line for line in text({"before": None, "after": measured(0.75)}))
    console = Console(record=True, file=io.StringIO())
    console.print(table({"before": None, "after": after}, "2 training tasks"))
    assert console.export_text().startswith("2 training tasks")
