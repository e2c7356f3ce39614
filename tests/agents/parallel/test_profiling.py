"""Where the time went: inner phases are not counted twice, and everything adds up."""

from __future__ import annotations

import pytest

from steptool_agents.parallel.profiling import Profiler, metrics, rows


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_phases_within_phases(clock: list[float]) -> None:
    profiler = Profiler()
    clock[0] += 1  # nobody's
    with profiler("generate"):
        clock[0] += 2
        with profiler("tools"):
            clock[0] += 4
        clock[0] += 8
    profiler.count("generate", 50)
    found = profiler.take()
    assert {phase: one["seconds"] for phase, one in found.items()} == {"generate": 10.0, "tools": 4.0, "other": 1.0}
    assert found["generate"]["tokens_per_second"] == 5.0
    assert sum(one["share"] for one in found.values()) == pytest.approx(1.0)
    clock[0] += 3
    assert {phase: one["seconds"] for phase, one in profiler.take().items()} == {"other": 3.0}


def test_a_phase_that_fails_is_closed(clock: list[float]) -> None:
    profiler = Profiler()
    with pytest.raises(ZeroDivisionError), profiler("tools"):
        clock[0] += 1
        raise ZeroDivisionError
    with profiler("generate"):
        clock[0] += 1
    assert {phase: one["seconds"] for phase, one in profiler.take().items()} == {"generate": 1.0, "tools": 1.0, "other": 0.0}


def test_metrics_and_their_table(clock: list[float]) -> None:
    profiler = Profiler()
    logged = []
    for seconds in (1.0, 3.0):
        with profiler("backward"):
            clock[0] += seconds
            profiler.count("backward", 10)
        with profiler("forward"):
            clock[0] += 1.0
            profiler.count("forward", 10)
        logged.append({"success": 0.5, **metrics(profiler.take())})
    assert logged[0]["tokens_per_second"] == 5.0  # ten tokens in two seconds: forward and back are the same tokens
    assert logged[1]["seconds/backward"] == 3.0
    assert rows(logged) == [
        ("forward", "1.00", "33.3", "10", "10"),
        ("backward", "2.00", "66.7", "10", "5"),
        ("other", "0.00", "0.0", "", ""),
        ("all", "3.00", "100.0", "", ""),
    ]
    assert rows([]) == []
