"""benchmarks/peers.py: a side that does an update when it is told to, environments that are made once, and the page."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import BENCHMARKS, load

from steptool_agents.config.presets import CHAINS
from steptool_agents.models.loading import TINY

peers = load("peers")
measuring = load("measuring")
with_trl = importlib.util.find_spec("trl") is not None and importlib.util.find_spec("datasets") is not None

SMALL = peers.Plan({**CHAINS, "depth": [2, 3]}, 2, group=2, new_tokens=12, rows=2, threads=1)


# ---------------------------------------------------------------- sides
@pytest.mark.parametrize(
    "side",
    ["ours", pytest.param("trl", marks=[pytest.mark.slow, pytest.mark.skipif(not with_trl, reason="TRL is not installed")])],
)
def test_a_side_does_an_update_when_it_is_told_to(side: str, tmp_path: Path) -> None:
    said: list[str] = []
    with peers.Player(side, Path(sys.executable), SMALL, TINY, tmp_path) as player:
        found = peers.compare({side: player}, 2, said.append)[side]
    assert len(found) == 2 and said[0].startswith(f"loaded: {side} ")
    for one in found:
        assert one["episodes"] == 4 and 4 <= one["turns"] <= 16 and 0 < one["written"] < one["tokens"]
        assert all(one["phases"][phase][name] > 0 for phase in peers.PHASES for name in ("seconds", "processor", "tokens")), one
    if side == "ours":  # what episodes share is read once
        assert found[1]["phases"]["learn"]["tokens"] < found[1]["tokens"]


def test_no_turn_begins_that_would_end_too_late() -> None:
    class Other:
        def update(self, *, go: bool = True) -> dict[str, Any]:
            return {"loaded_mb": 1.0}

    assert [len(updates) for updates in peers.compare({"ours": Other(), "trl": Other()}, 3, str, 0.0).values()] == [1, 1]
    assert [len(updates) for updates in peers.compare({"ours": Other(), "trl": Other()}, 3, str).values()] == [3, 3]


def test_a_side_that_fails_is_said(tmp_path: Path) -> None:
    with peers.Player("ours", Path(sys.executable), SMALL, tmp_path, tmp_path) as player, pytest.raises(SystemExit, match=r"ours\.log"):
        player.update(go=False)


def test_a_plan_survives_the_command_line() -> None:
    assert peers.Plan.from_json(SMALL.to_json()) == SMALL
    assert list(SMALL.tasks(1)) == [2, 3]


def test_phases_add_up() -> None:
    meter = measuring.Meter()
    meter.count(7)  # of no phase
    for phase, tokens in (("a", 2), ("b", 3), ("a", 4)):
        meter.enter(phase)
        meter.count(tokens)
    held = b"x" * 64_000_000  # written, so that it takes memory
    found = meter.take()
    assert {phase: one["tokens"] for phase, one in found.items()} == {"a": 6, "b": 3}
    assert found["a"]["peak_mb"] > 50 > found["b"]["peak_mb"] and len(held) == 64_000_000
    assert meter.take() == {}


# ---------------------------------------------------------------- environments
def test_an_environment_is_made_once_and_again_where_it_was_not_made_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from serving_parts import environments

    ran: list[list[str]] = []
    monkeypatch.setenv("STEPTOOL_CACHE", str(tmp_path))

    def fails(command: list[str], check: bool) -> None:
        (tmp_path / "it-1").mkdir(exist_ok=True)
        ran.append(command)
        if len(ran) == 2:
            raise RuntimeError("no network")

    monkeypatch.setattr(environments.subprocess, "run", fails)
    said: list[str] = []
    with pytest.raises(RuntimeError, match="no network"):
        environments.environment("it-1", [["install", "it"]], "a minute", said.append)
    for _ in range(2):
        python = environments.environment("it-1", [["install", "it"]], "a minute", said.append)
    assert python == tmp_path / "it-1" / "bin" / "python" and len(said) == 2 and "a minute" in said[0]
    assert [command[1:3] for command in ran] == [["-m", "venv"], ["-m", "pip"]] * 2 and ran[-1][3:] == ["install", "it"]


# ---------------------------------------------------------------- the page
def update(generate: float, learn: float, peak: float, tokens: int) -> dict[str, Any]:
    def phase(seconds: float, mb: float) -> dict[str, float]:
        return {"seconds": seconds, "processor": 2 * seconds, "peak_mb": mb, "tokens": 100 * seconds}

    return {
        "phases": {"generate": phase(generate, peak / 2), "learn": phase(learn, peak)},
        "episodes": 16, "tokens": tokens, "written": tokens // 10, "turns": 40, "solved": 4.0, "reward": 0.5, "loaded_mb": 700.0,
    }  # fmt: skip


def test_the_page_by_hand() -> None:
    ours = [update(2.0, 1.0, 500.0, 10_000), update(4.0, 1.0, 400.0, 10_000)]
    theirs = [update(6.0, 6.0, 2_000.0, 5_000), update(4.0, 6.0, 1_000.0, 5_000)]
    plan = peers.Plan({}, 2)
    text = peers.page({"ours": ours, "trl": theirs}, plan, "python benchmarks/peers.py", "a model", "a machine")
    assert "| this package | 4.0 | 3.0 | 1.0 | 8.0 | 500 | 250 | 500 | 700 |" in text
    assert "| TRL, as it comes | 11.0 | 5.0 | 6.0 | 22.0 | 2,000 | 1,000 | 2,000 | 700 |" in text
    # 12 / 3 and 10 / 5; 6 / 2 and 4 / 4; 6 / 1 twice; half as many tokens.
    assert "| this package, beside TRL, as it comes | **3.00** | 2.00 | 6.00 | 6.00 | 6.00 | **0.25** |" in text
    assert "| this package | 10,000 | 1,000 | 40 | 4 | 0.50 | 300 | 100 | 0.40 | 4.0 |" in text


def test_unknown_sides_are_refused() -> None:
    assert list(peers.sides("ours,trl-kept")) == ["ours", "trl-kept"]
    with pytest.raises(Exception, match="'vllm' is no side"):
        list(peers.sides("ours,vllm"))
