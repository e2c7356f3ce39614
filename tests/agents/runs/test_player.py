"""Episodes that servers play while the process learns: from which weights, how they are credited, and what a kill leaves of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from measured import timeless
from model_servers import Server
from servers import serving

from steptool_agents.algorithms import load_algorithm, step_ppo
from steptool_agents.config import CHAINS, Config
from steptool_agents.models.loading import load_model
from steptool_agents.runs.checkpoint import list_checkpoints, load_checkpoint
from steptool_agents.runs.run import Run
from steptool_agents.runs.trackers import read_metrics
from steptool_env.errors import InvalidArgument, NotSupported

pytest.importorskip("httpx2")

SMALL: dict[str, Any] = {"demos": 4, "episodes": 2, "eval_episodes": 1, "minibatches": 1, "value_passes": 2, "max_steps": 3, "report_to": "none"}
SMALL |= {"lr": 1e-2, "updates": 3, "server_model": "m", "overlap": 1, "max_new_tokens": 12}
SMALL |= {"suite_options": {**CHAINS, "depth": [2, 2], "families": ["lookup"], "domains": ["shop"]}}


def train(out: Path, server: Server | None = None, **changes: Any) -> Server:
    """Begin a run with a server of its own, or go on with it."""
    server = server or Server(load_model("tiny"))
    with serving(server) as at:
        config = Config.of(**{**SMALL, "servers": f"http://{at}/v1", **changes})
        load_algorithm(config.learning.algo)(config, out, resume=out.exists())
    return server


def updates(server: Server) -> list[int]:
    """The numbers of the handovers whose weights have played, in order."""
    return sorted({int(name.split("-")[1]) for name in server.played})


class Killed(Exception):
    """Stands for the end of the process."""


def killing(method: Callable[..., Any], call: int) -> Callable[..., Any]:
    """Return the method; it ends the run at this call of it, before it does anything."""
    calls = iter(range(1_000))

    def replaced(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise Killed
        return method(*arguments, **options)

    return replaced


def test_episodes_are_played_ahead_and_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "killed"
    server, lines = train(whole), read_metrics(whole)
    assert [line["staleness"] for line in lines] == [0.0, 1.0, 1.0]
    assert lines[0]["sampling_kl"] < 1e-9, "played by the weights that learn from them"
    for line in lines[1:]:
        assert line["sampling_kl"] > 1e-6 and line["importance"] != pytest.approx(1.0, abs=1e-6) and 0.0 <= line["importance_truncated"] < 1.0
    # Handed over: before the critic's first batch, before update 0 (two batches are played then), and before update 1. Update 2 plays nothing.
    assert updates(server) == [0, 1, 2] and server.asked.count("/collective_rpc") == 3

    # Killed while update 1 learns and the episodes of update 2 are played, and again when both are done and nothing of it is saved.
    for place, name, call in ((step_ppo, "improve", 1), (Run, "save", 0)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(place, name, killing(getattr(place, name), call))
            train(out)
        assert list_checkpoints(out) == [1]
    # Goes on, is killed in the last update, and goes on once more.
    server = Server(load_model("tiny"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(step_ppo, "improve", killing(step_ppo.improve, 1))
        train(out, server)
    assert updates(server) == [0], "only those that were in flight are played once more"
    assert not updates(train(out)), "nothing is played for an update that does not come"
    found, expected = load_checkpoint(out), load_checkpoint(whole)
    assert found[1].keys() == expected[1].keys()
    for name, tensor in expected[1].items():
        assert torch.equal(tensor, found[1][name]), name
    assert found[2]["run"]["spent"] == expected[2]["run"]["spent"] and "ahead" not in found[2]["run"]
    assert timeless(out) == timeless(whole)
    assert [line.get("servers/playing") for line in lines] == [1.0, 1.0, None]


def test_what_cannot_be_played_ahead(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="its own way to play"):
        train(tmp_path / "eto", algo="eto", overlap=1)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        train(tmp_path / "none", servers="no/such/file.txt")
