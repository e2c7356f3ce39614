"""Two processes learn from what two model servers play: is that as good as one process that plays itself? ``step-ppo`` on ``worlds``.

    python benchmarks/servers_and_learners.py             # some minutes on two cores; writes benchmarks/results/servers_and_learners.md
    python benchmarks/servers_and_learners.py --quick     # one seed, one update; writes no page

Both begin with the same warm start, play the same tasks, and are evaluated on the same held-out tasks; what they sample has seeds of its own. The
servers hold the same float32 model in processes of their own (``serving_parts/server.py``), so what is compared is everything between:
rendering, requests, the handover of weights, the learner's values and log-probabilities, the importance weights, and the gradients of two
processes. With the same seeds both make the same weights: ``tests/agents/parallel/test_processes.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from serving_parts.server import serving

RESULTS = Path(__file__).parent / "results" / "servers_and_learners.md"
SETTINGS: dict[str, Any] = {"episodes": 64, "epochs": 1, "updates": 8, "eval_episodes": 200, "eval_width": 100, "report_to": "none"}
LAUNCH = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]


def learn(work: Path, way: str, seeds: int, settings: dict[str, Any]) -> None:
    """Train with each seed; every process of the way calls it."""
    import torch

    from steptool_agents import Config, load_algorithm
    from steptool_agents.parallel import processes
    from steptool_agents.runs.folder import copy_warm_start

    torch.set_num_threads(1)
    processes.start(cpu=True)
    for seed in range(seeds):
        config = Config.of(**{**SETTINGS, **settings, "seed": seed})
        out = work / f"{way}-{seed}"
        if way != "alone" and processes.is_main():
            copy_warm_start(work / f"alone-{seed}", out, config)
        processes.wait()
        load_algorithm("step-ppo")(config, out)


def start(work: Path, way: str, seeds: int, settings: dict[str, Any]) -> float:
    """Train in one process, or in two that ``accelerate`` starts; return the seconds."""
    launcher = ["-m", "accelerate.commands.launch", *LAUNCH] if way == "served" else []
    arguments = [str(Path(__file__)), "--learn", way, "--work", str(work), "--seeds", str(seeds), "--settings", json.dumps(settings)]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *launcher, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{way} failed: {done.stderr[-3000:]}")
    return time.perf_counter() - started


def outcomes(work: Path, way: str, seeds: int) -> list[list[float]]:
    """Return the success on each held-out task, by seed."""
    from steptool_agents import read_jsonl

    return [[one.success for one in read_jsonl(work / f"{way}-{seed}" / "trajectories.jsonl")] for seed in range(seeds)]


def measure(seeds: int, settings: dict[str, Any]) -> dict[str, Any]:
    from steptool_agents import bootstrap, paired, read_metrics

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        seconds = {"alone": start(work, "alone", seeds, settings)}
        with serving(2) as servers:
            seconds["served"] = start(work, "served", seeds, {**settings, "servers": servers})
        solved = {way: outcomes(work, way, seeds) for way in seconds}
        before = [json.loads((work / f"alone-{seed}" / "report.json").read_text())["before"]["success"] for seed in range(seeds)]
        lines = [line for seed in range(seeds) for line in read_metrics(work / f"served-{seed}")]
        return {
            "seconds": seconds,
            "before": before,
            "by_seed": {way: [statistics.mean(one) for one in values] for way, values in solved.items()},
            "success": {way: bootstrap(values) for way, values in solved.items()},
            "difference": paired(solved["served"], solved["alone"]),
            "mismatch": {name: statistics.mean(line[name] for line in lines) for name in ("importance", "importance_truncated", "sampling_kl")},
            "servers": {name: sum(line[f"servers/{name}"] for line in lines) for name in ("failed", "moved", "unanswered")},
        }


def page(found: dict[str, Any], command: str) -> str:
    lines = ["# Two servers and two learners against one process", "", f"`{command}`", ""]
    lines += [f"`step-ppo` with `tiny` on `worlds`, {SETTINGS['updates']} updates of {SETTINGS['episodes']} episodes, {len(found['before'])} seeds, "]
    lines[-1] += f"{SETTINGS['eval_episodes']} held-out tasks; success with 95 % intervals over seeds and tasks."
    lines += ["", "| | success by seed | success | seconds |", "|---|---|---|---|"]
    lines.append(f"| warm start | {', '.join(f'{one:.3f}' for one in found['before'])} | {statistics.mean(found['before']):.3f} | |")
    for way, name in (("alone", "one process that plays itself"), ("served", "two learners, two servers")):
        one = found["success"][way]
        by_seed = ", ".join(f"{mean:.3f}" for mean in found["by_seed"][way])
        lines.append(f"| {name} | {by_seed} | {one.mean:.3f} ({one.low:.3f} to {one.high:.3f}) | {found['seconds'][way]:.0f} |")
    one = found["difference"]
    lines += ["", f"Difference, paired on tasks and seeds: {one.mean:+.3f} ({one.low:+.3f} to {one.high:+.3f})."]
    mismatch, servers = found["mismatch"], found["servers"]
    lines += [
        "",
        f"Means over the updates: importance weight {mismatch['importance']:.6f}, share truncated {mismatch['importance_truncated']:.4f}, "
        f"KL of server and learner {mismatch['sampling_kl']:.1e} nats per token. Handovers that a server did not take: {servers['failed']:.0f}; "
        f"episodes moved: {servers['moved']:.0f}; unanswered: {servers['unanswered']:.0f}.",
        "",
        "The first row of seconds includes the warm starts. All of it runs on two cores: the seconds say what servers cost here, not what they gain elsewhere.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--learn", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--settings", default="{}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.learn:
        learn(Path(options.work), options.learn, options.seeds, json.loads(options.settings))
        return
    found = measure(1, {"updates": 1, "episodes": 16, "demos": 50, "eval_episodes": 20}) if options.quick else measure(options.seeds, {})
    text = page(found, shlex.join(["python", "benchmarks/servers_and_learners.py", *sys.argv[1:]]))
    print(text)
    if not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
