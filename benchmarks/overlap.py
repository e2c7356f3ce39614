"""What does it save to play ahead, and what does it cost? ``step-ppo`` on ``worlds`` with slow servers, ``overlap`` 1 against 0.

    python benchmarks/overlap.py             # about thirteen minutes on two idle cores; writes benchmarks/results/overlap.md
    python benchmarks/overlap.py --quick     # one seed, two updates; writes no page

One process learns, two servers play (``serving_parts/server.py``). Servers answer at multiples of a latency only, ``--latency`` for each pass of
the learner, so that an update plays about as long as it learns, which is where overlap saves most. This is done twice: with the default number of
passes over a batch, and with twice as many, since what playing costs the learner is the same in both: it sends the requests and steps the
environments while it learns. Both ways begin with the same warm start, and take turns.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from scale_model import run_seconds
from serving_parts.server import serving

RESULTS = Path(__file__).parent / "results" / "overlap.md"
SETTINGS: dict[str, Any] = {"episodes": 40, "updates": 12, "demos": 200, "eval_episodes": 100, "eval_width": 100, "report_to": "none"}

PASSES = (2, 4)
"""Over a batch (``epochs``): by default, and twice as many."""


def measure(seeds: int, latency: float, settings: dict[str, Any]) -> dict[str, Any]:
    import torch

    from steptool_agents import Config, bootstrap, load_algorithm, paired, read_jsonl, read_metrics
    from steptool_agents.runs.folder import copy_warm_start

    torch.set_num_threads(1)
    lines: dict[int, list[list[dict[str, float]]]] = {0: [], 1: []}
    solved: dict[int, list[list[float]]] = {0: [], 1: []}
    with tempfile.TemporaryDirectory() as folder, serving(2, latency) as servers:
        for seed in range(seeds):
            for overlap in (0, 1):
                config = Config.of(**{**SETTINGS, **settings, "seed": seed, "servers": servers, "overlap": overlap})
                out = Path(folder) / f"{overlap}-{seed}"
                if overlap:
                    copy_warm_start(Path(folder) / f"0-{seed}", out, config)
                load_algorithm("step-ppo")(config, out)
                lines[overlap].append(read_metrics(out))
                solved[overlap].append([one.success for one in read_jsonl(out / "trajectories.jsonl")])
                print(f"seed {seed}, overlap {overlap}: {wall(lines[overlap][-1]):.1f} s", file=sys.stderr, flush=True)
    every = {overlap: [line for run in runs for line in run] for overlap, runs in lines.items()}
    names = ("seconds_rollout", "seconds_update", "staleness", "importance", "importance_truncated", "sampling_kl", "clip_fraction")
    return {
        "wall": {overlap: [wall(run) for run in runs] for overlap, runs in lines.items()},
        "ratio": statistics.median(wall(fast) / wall(slow) for slow, fast in zip(lines[0], lines[1], strict=True)),
        "success": {overlap: bootstrap(values) for overlap, values in solved.items()},
        "difference": paired(solved[1], solved[0]),
        "means": {overlap: {name: statistics.mean(line[name] for line in found) for name in names} for overlap, found in every.items()},
    }


def wall(run: list[dict[str, float]]) -> float:
    """The seconds of all updates of a run, without warm start and evaluation."""
    return sum(line["seconds_rollout"] + line["seconds_update"] for line in run)


def page(found: dict[int, dict[str, Any]], latency: float, command: str) -> str:
    first, updates = next(iter(found.values())), SETTINGS["updates"]
    lines = ["# Playing ahead", "", f"`{command}`", ""]
    lines += [f"`step-ppo` with `tiny` on `worlds`, {updates} updates of {SETTINGS['episodes']} episodes, {len(first['wall'][0])} seeds, two servers; "]
    lines[-1] += f"{SETTINGS['eval_episodes']} held-out tasks; success with 95 % intervals over seeds and tasks."
    lines += [
        "",
        "| passes | servers answer every | overlap | seconds of the updates, by seed | waiting, s an update | learning, s an update | success |",
        "|---:|---:|---:|---|---:|---:|---|",
    ]
    for epochs, one in found.items():
        for overlap in (0, 1):
            success, mean = one["success"][overlap], one["means"][overlap]
            by_seed = ", ".join(f"{seconds:.1f}" for seconds in one["wall"][overlap])
            solved = f"{success.mean:.3f} ({success.low:.3f} to {success.high:.3f})"
            times = f"{mean['seconds_rollout']:.2f} | {mean['seconds_update']:.2f}"
            lines.append(f"| {epochs} | {latency * epochs:g} s | {overlap} | {by_seed} | {times} | {solved} |")
    lines += [
        "",
        "| passes | wall time of overlap 1 against 0 | by `scale_model.py` | success of 1 less that of 0, paired on tasks and seeds |",
        "|---:|---:|---:|---|",
    ]
    for epochs, one in found.items():
        times = one["means"][0]["seconds_rollout"], one["means"][0]["seconds_update"], 0.0
        predicted = run_seconds(*times, updates, overlap=True) / run_seconds(*times, updates, overlap=False)
        difference = one["difference"]
        paired = f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
        lines.append(f"| {epochs} | **{one['ratio']:.2f}** | {predicted:.2f} | {paired} |")
    lines += ["", "The ratio is the median over seeds. The cost model knows the times of overlap 0, and nothing of what playing costs a learner that shares"]
    lines += ["its two cores with both servers. The first update of a run has nothing that was played ahead, so the ratio of a long run is lower.", ""]
    lines += ["| passes | overlap | staleness | importance | share truncated | KL of server and learner | clip fraction |", "|---:|---:|---|---|---|---|---|"]
    for epochs, one in found.items():
        for overlap in (0, 1):
            mean = one["means"][overlap]
            weights = f"{mean['importance']:.4f} | {mean['importance_truncated']:.4f} | {mean['sampling_kl']:.1e}"
            lines.append(f"| {epochs} | {overlap} | {mean['staleness']:.2f} | {weights} | {mean['clip_fraction']:.3f} |")
    return "\n".join([*lines, "", "Means over the updates."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.09, help="seconds per pass over a batch (default: %(default)s)")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    small = {"updates": 2, "demos": 50, "eval_episodes": 20}
    small = {"updates": 2, "demos": 50, "eval_episodes": 20} if options.quick else {}
    seeds = 1 if options.quick else options.seeds
    found = {epochs: measure(seeds, options.latency * epochs, {**small, "epochs": epochs}) for epochs in PASSES}
    text = page(found, options.latency, shlex.join(["python", "benchmarks/overlap.py", *sys.argv[1:]]))
    print(text)
    if not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
