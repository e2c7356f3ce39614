"""Servers come and go while a run goes on: which ones there are, who gets the weights, and who waits for whom."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from model_servers import Server, model, running
from safetensors import safe_open
from servers import Reply, serving

from steptool_agents.learning.batches import length
from steptool_agents.models import export
from steptool_agents.models.export import export_model
from steptool_agents.policies.served import ServedPolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.servers import weights
from steptool_agents.servers.client import ChatClient
from steptool_agents.servers.roster import Roster
from steptool_agents.servers.weights import HandOver
from steptool_agents.trajectory import Trajectory
from steptool_env import StepToolEnv, make_suite
from steptool_env.errors import InvalidArgument, Unavailable

pytest.importorskip("httpx2")

LOAD = "/v1/load_lora_adapter"


def play(policy: ServedPolicy, count: int = 4) -> list[Trajectory]:
    policy.seeds.extend(range(1, count + 1))
    suite = make_suite("jsonl", split="all")
    return rollout(policy, [StepToolEnv(suite, "final", max_steps=3) for _ in range(count)], list(range(count)))


MOVED = (1, 2)
"""Of four episodes two begin with each server; the second of a dead one's moves only if it began before the first one's failure was known."""


def masked(trajectories: list[Trajectory]) -> int:
    return sum(bool(one.masked.any()) for one in trajectories)


def closed() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


# ---------------------------------------------------------------- which servers there are
def test_endpoints_are_listed_or_stand_in_a_file_that_may_change(tmp_path: Path) -> None:
    assert [client.endpoint for client in Roster("http://a:1/v1, http://b:2/v1").clients()] == ["http://a:1/v1", "http://b:2/v1"]
    file = tmp_path / "servers.txt"
    file.write_text("# all of them\nhttp://a:1/v1\n\n http://b:2/v1 \nhttp://a:1/v1\n")
    roster = Roster(str(file), concurrency=3)
    first = roster.clients()
    assert [client.endpoint for client in first] == ["http://a:1/v1", "http://b:2/v1"] and first[0].concurrency == 3
    file.write_text("http://b:2/v1\nhttp://c:3/v1\n")
    later = roster.clients()
    assert [client.endpoint for client in later] == ["http://b:2/v1", "http://c:3/v1"] and later[0] is first[1]
    for broken in ("", "# none today\n", "http://b:2/v1\nnonsense\n"):
        file.write_text(broken)
        assert roster.clients() == later, "a file that is being edited changes nothing"
    file.unlink()
    assert roster.clients() == later
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Roster(str(file))
    for nothing in ("", " , http:// ", []):
        with pytest.raises(InvalidArgument):
            Roster(nothing)


def test_a_server_that_is_added_plays_and_one_that_is_removed_does_not(tmp_path: Path) -> None:
    servers = [Server() for _ in range(3)]
    with ExitStack() as stack:
        endpoints = [f"http://{stack.enter_context(serving(server))}/v1" for server in servers]
        file = tmp_path / "servers.txt"
        policy = ServedPolicy(model(2), HandOver(_listed(file, endpoints[:2]), tmp_path / "w", "m"), max_new_tokens=4)
        for listed, playing in ((endpoints[:2], [0, 1]), (endpoints, [0, 1, 2]), (endpoints[1:], [1, 2])):
            file.write_text("\n".join(listed))
            policy.forget()
            for server in servers:
                server.asked.clear()
            assert not masked(play(policy, 6))
            assert [number for number, server in enumerate(servers) if "/v1/completions" in server.asked] == playing
        assert policy.counts() == {"servers/playing": 2, "servers/failed": 0, "servers/moved": 0, "servers/unanswered": 0}


def _listed(file: Path, endpoints: list[str]) -> Roster:
    file.write_text("\n".join(endpoints))
    return Roster(str(file), attempts=2, backoff=0.0)


# ---------------------------------------------------------------- who waits for whom
class Slow(Server):
    """Loads weights when it is told to; it holds no lock of the others meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.slow = threading.Event(), False

    def __call__(self, request: Any) -> Reply:
        if self.slow and request.path == LOAD:
            assert self.go.wait(30)
        return super().__call__(request)


@pytest.mark.slow
def test_nobody_waits_for_a_server_that_was_not_there_and_it_joins_when_it_is(tmp_path: Path) -> None:
    lm, slow, quick = model(2), Slow(), Server()
    with serving(slow) as a, serving(quick) as b:
        handover = HandOver([ChatClient(f"http://{at}/v1", attempts=2, backoff=0.0) for at in (a, b)], tmp_path, "m")
        policy = ServedPolicy(lm, handover, max_new_tokens=4)
        policy.forget()
        slow.dead = True
        assert not masked(play(policy)) and policy.moved in MOVED
        slow.dead, slow.slow = False, True  # it was started anew, and takes its time
        slow.adapters.clear()
        started = time.monotonic()
        policy.forget()
        assert time.monotonic() - started < weights.GRACE + 5 and handover.failed == 1
        assert not masked(play(policy)) and policy.counts()["servers/playing"] == 1

        policy.forget()  # it is still at the weights of the last update, and is left to itself
        assert slow.asked.count(LOAD) == 1 and handover.failed == 2
        slow.go.set()
        deadline = time.monotonic() + 20
        while slow.asked.count(LOAD) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        slow.asked.clear()
        assert not masked(play(policy)) and "/v1/completions" not in slow.asked, "it has old weights"

        slow.go.clear()
        policy.forget()
        slow.go.set()  # in time for the next episodes
        deadline = time.monotonic() + 20
        while policy.counts()["servers/playing"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not masked(play(policy)) and "/v1/completions" in slow.asked


def test_a_server_that_is_gone_costs_no_time_and_is_waited_for_only_if_it_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PAUSE", 0.05)
    lm, server = model(2), Server()
    with serving(server) as at:
        # Eight attempts with a second and more between them: nobody may wait for those.
        patient = {"attempts": 8, "backoff": 1.0}
        handover = HandOver(Roster([ChatClient(f"http://{at}/v1", attempts=2, backoff=0.0), ChatClient(closed(), **patient)]), tmp_path, "m", patience=20.0)
        handover._relied = {f"http://{at}/v1"}  # as after an update in which the other one was lost
        for update in range(2):
            started = time.monotonic()
            assert len(handover(lm, update)[1]) == 1
            assert time.monotonic() - started < weights.GRACE + 5
        assert handover.failed == 2

        server.dead = True
        threading.Timer(0.5, lambda: setattr(server, "dead", False)).start()
        assert len(handover(lm, 2)[1]) == 1, "it came back"
    nowhere = HandOver([ChatClient(closed(), attempts=1)], tmp_path, "m", patience=600.0)
    with pytest.raises(Unavailable, match="no server took the weights"):
        nowhere(lm, 0)  # a wrong address is told at once


class Short(Server):
    """Takes short texts only, like one with a small ``--max-model-len``."""

    longest = 0

    def completions(self, body: dict[str, Any]) -> Reply:
        return (400, {}, "too long") if self.longest and len(body["prompt"]) > self.longest else super().completions(body)


def test_a_text_that_no_server_takes_ends_its_episode_alone_and_a_lost_adapter_does_not(tmp_path: Path) -> None:
    lm, servers = model(2), [Short(), Short()]
    with serving(servers[0]) as a, serving(servers[1]) as b:
        policy = ServedPolicy(lm, HandOver([ChatClient(f"http://{at}/v1", attempts=3, backoff=0.0) for at in (a, b)], tmp_path, "m"), max_new_tokens=4)
        policy.forget()
        Short.longest = sorted(length(one) - len(one.steps[-1].generation.token_ids) for one in play(policy))[-2]  # of the last requests
        try:
            trajectories = play(policy)
        finally:
            Short.longest = 0
        assert policy.unanswered == masked(trajectories) == 1 and policy.moved == 0
        servers[0].adapters.clear()  # started anew while nobody asked
        assert not masked(play(policy)) and policy.moved in MOVED


# ---------------------------------------------------------------- half a folder
def test_half_a_folder_is_never_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = model(2)
    with running(1, tmp_path) as (servers, handover):
        policy = ServedPolicy(lm, handover, max_new_tokens=4)
        policy.forget()

        def full(_: Any, folder: Path, **options: Any) -> None:
            (folder / "adapter_config.json").write_text("{}")
            raise OSError("the disk is full")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
            patch.setattr(export, "save_weights", full)
            policy.forget()
        assert servers[0].asked.count(LOAD) == 1 and len(list(tmp_path.iterdir())) == 1

        child = os.fork()
        if not child:  # pragma: no cover  # ends in the middle

            def killed(_: Any, folder: Path, **options: Any) -> None:
                (folder / "adapter_model.safetensors").write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)

            export.save_weights = killed  # type: ignore[assignment]
            export_model(lm, tmp_path / "fresh" / "update-7-x")
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        (left,) = (tmp_path / "fresh").iterdir()
        assert not list((tmp_path / "fresh").glob("update-*")) and (left / "adapter_model.safetensors").read_text() == "half"
        export_model(lm, tmp_path / "fresh" / "update-8-x")
        assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["update-8-x"], "what the killed one left is removed"
        policy.forget()
        assert not masked(play(policy))


# ---------------------------------------------------------------- the output projection
def test_a_projection_that_is_the_embedding_is_handed_over_under_its_own_name_too(tmp_path: Path) -> None:
    lm = model(0)
    head, embedding = lm.model.get_output_embeddings(), lm.model.get_input_embeddings().weight
    own = export_model(lm, tmp_path / "own", head=True)
    assert not (own / "head.safetensors").exists(), "what is no embedding is in the file of all weights"
    head.weight = embedding
    alone = export_model(lm, tmp_path / "alone")
    assert not (alone / "head.safetensors").exists(), "an export for everybody holds it once"
    with running(1, tmp_path / "served") as (_, handover):
        handover(lm, 0)
        with safe_open(handover._path / "head.safetensors", "pt") as file:
            assert list(file.keys()) == ["lm_head.weight"] and torch.equal(file.get_tensor("lm_head.weight"), embedding)
