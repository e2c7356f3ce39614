"""benchmarks/vllm_server.py: a learner that is killed and goes on with servers on loopback; its settings and its page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import load

vllm_server = load("vllm_server")

GIVEN = argparse.Namespace(model="tiny", demos=4, updates=3, episodes=None, tasks=2, servers=2, dtype="float32", device="cpu", threads=1, url="")


@pytest.mark.parametrize("way", ["adapters", "all weights"])
def test_the_settings_of_a_way(way: str, tmp_path: Path) -> None:
    config = vllm_server.settings(way, "smollm2", tmp_path / "servers.txt", tmp_path / "weights", argparse.Namespace(**{**vars(GIVEN), "model": "smollm2"}))
    assert bool(config.model.lora_rank) == (way == "adapters") and config.warm_start.demos == 4
    assert (config.rollout.servers, config.rollout.server_model) == (str(tmp_path / "servers.txt"), "smollm2")
    assert (config.rollout.episodes, config.run.updates, config.task.suite_options["level"]) == (8 if way == "adapters" else 4, 3, 1)


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    assert vllm_server.lines_of(file) == []
    file.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert vllm_server.lines_of(file) == [{"a": 1}, {"a": 2}]


LEARNER = """
import json, sys, time
from pathlib import Path
place = Path(sys.argv[1])
(place / "run").mkdir(exist_ok=True)
metrics = place / "run" / "metrics.jsonl"
done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
(place / "starts").open("a").write("x")
for update in range(done, 4):
    (place / "handovers.jsonl").open("a").write(json.dumps({"update": update}) + "\\n")
    time.sleep(60.0 if not done and update == 2 else 2.0 if update == 3 else 0.05)  # it is killed there, and a server here
    metrics.open("a").write(json.dumps({"update": update, "success": 0.5}) + "\\n")
    time.sleep(0.05)
if sys.argv[2] == "well":
    (place / "run" / "report.json").write_text("{}")
"""


class Fake:
    """A server that is killed and started."""

    seconds = 1.0

    def __init__(self) -> None:
        self.told: list[str] = []

    def kill(self) -> None:
        self.told.append("kill")

    def start(self) -> None:
        self.told.append("start")


def test_a_learner_is_killed_and_goes_on_and_so_is_a_server(tmp_path: Path) -> None:
    said: list[str] = []
    servers = [Fake(), Fake()]
    vllm_server.train(tmp_path, [sys.executable, "-c", LEARNER, str(tmp_path), "well"], servers, 1, said.append)
    assert [line["update"] for line in vllm_server.lines_of(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2, 3]
    assert (tmp_path / "starts").read_text() == "xx" and [server.told for server in servers] == [[], ["kill", "start"]]
    events = [line["event"] for line in vllm_server.lines_of(tmp_path / "events.jsonl")]
    assert "The learner was killed after 2 updates" in events[0] and "A server was killed after 3 updates" in events[1]
    assert sum("update 3: success 0.50" in line for line in said) == 1


def test_a_learner_that_fails_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"the learner failed, see .*learner\.log"):
        vllm_server.train(tmp_path, [sys.executable, "-c", "raise ValueError"], [], 1, print)


def test_the_page() -> None:
    line = dict.fromkeys(
        ["success", "importance", "importance_truncated", "sampling_kl", "approx_kl", "clip_fraction", "seconds_rollout", "seconds_update"], 0.5
    )
    line |= {"update": 0.0, "servers/playing": 2.0, "servers/failed": 1.0, "servers/moved": 3.0}
    at = {"read": 90, "written": 10, "seconds": 2.0, "success": 0.5}
    greedy = {"actions": [3, 4], "episodes": [1, 2], "tokens": [7, 9], "furthest": 1e-4, "parted": [[0, 1, 1e-5]]}
    handed = {"update": 0, "name": "smollm2-0-ab", "files": {"a.safetensors": 2_000_000}, "servers": ["x", "y"], "seconds": 0.5}
    way: dict[str, Any] = {"way": "adapters", "finite": True, "success": [0.1, 0.2], "metrics": [line]}
    way |= {"events": ["The learner was killed."], "handed": [handed]}
    way |= {"compare": json.loads(json.dumps({"here": at, "there": {**at, "seconds": 4.0}, "success": 0.2, "greedy": greedy, "ties": 1}))}
    text = vllm_server.page([way], "python benchmarks/vllm_server.py", GIVEN)
    assert "| adapters | yes | 0.10 | 0.20 | 3 of 4 | 1 of 2 | 1, 1 | 50 (5.0) | 25 (2.5) |" in text
    assert "| 0 | 0.50 | 0.5000 | 0.5000 | 5.0e-01 | 5.0e-01 | 0.500 | 0 | 0 | 2 | 1 | 3 |" in text
    assert "| adapters | yes | 0.10 |  | not asked |  |  |  |  |" in vllm_server.page([{**way, "compare": None, "success": [0.1, float("nan")]}], "x", GIVEN)
    assert "- The learner was killed." in text and "| 0 | smollm2-0-ab | a.safetensors | 2.0 | 2 | 0.5 |" in text
