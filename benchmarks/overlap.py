"""What does it save to play ahead, and what does it cost? ``step-ppo`` on ``worlds`` with slow servers, ``overlap`` 1 against 0.

    python benchmarks/overlap.py             # about ten minutes on two idle cores; writes benchmarks/results/overlap.md
    python benchmarks/overlap.py --quick     # one seed, two updates; writes no page

One process learns, two servers play (``serving_parts/server.py``). Servers answer at multiples of ``--latency`` seconds only, so that an update
plays about as long as it learns, which is where overlap saves most. They share the last core, as servers elsewhere would not compute on the
learner's. Both ways begin with the same warm start, and take turns.
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
SETTINGS: dict[str, Any] = {"episodes": 40, "updates": 24, "demos": 200, "eval_episodes": 100, "eval_width": 100, "report_to": "none"}


def measure(seeds: int, latency: float, settings: dict[str, Any]) -> dict[str, Any]:
    import torch

    from steptool_agents import Config, bootstrap, load_algorithm, paired, read_jsonl, read_metrics
    from steptool_agents.runs.folder import copy_warm_start

    torch.set_num_threads(1)
    lines: dict[int, list[list[dict[str, float]]]] = {0: [], 1: []}
    solved: dict[int, list[list[float]]] = {0: [], 1: []}
    with tempfile.TemporaryDirectory() as folder, serving(2, latency, apart=True) as servers:
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


def page(found: dict[str, Any], latency: float, command: str) -> str:
    seeds = len(found["wall"][0])
    lines = ["# Playing ahead", "", f"`{command}`", ""]
    lines += [f"`step-ppo` with `tiny` on `worlds`, {SETTINGS['updates']} updates of {SETTINGS['episodes']} episodes, {seeds} seeds, two servers on a "]
    lines[-1] += f"core of their own that answer every {latency:g} s only, {SETTINGS['eval_episodes']} held-out tasks; success with 95 % intervals over "
    lines[-1] += "seeds and tasks."
    lines += [
        "",
        "| overlap | seconds of the updates, by seed | waiting, s an update | learning, s an update | success |",
        "|---|---|---|---|---|",
    ]
    for overlap in (0, 1):
        one, mean = found["success"][overlap], found["means"][overlap]
        by_seed = ", ".join(f"{seconds:.1f}" for seconds in found["wall"][overlap])
        success = f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})"
        lines.append(f"| {overlap} | {by_seed} | {mean['seconds_rollout']:.2f} | {mean['seconds_update']:.2f} | {success} |")
    one = found["difference"]
    lines += ["", f"Wall time of overlap 1 against 0: **{found['ratio']:.2f}** (median over seeds). "]
    lines[-1] += f"Difference in success, paired on tasks and seeds: {one.mean:+.3f} ({one.low:+.3f} to {one.high:+.3f})."
    mean, updates = found["means"][0], SETTINGS["updates"]
    times = mean["seconds_rollout"], mean["seconds_update"], 0.0
    predicted = run_seconds(*times, updates, overlap=True) / run_seconds(*times, updates, overlap=False)
    lines[-1] += f" What the cost model (`scale_model.py`) makes of the times of overlap 0: {predicted:.2f}."
    lines += ["", "| overlap | staleness | importance | share truncated | KL of server and learner | clip fraction |", "|---|---|---|---|---|---|"]
    for overlap in (0, 1):
        mean = found["means"][overlap]
        weights = f"{mean['importance']:.4f} | {mean['importance_truncated']:.4f} | {mean['sampling_kl']:.1e}"
        lines.append(f"| {overlap} | {mean['staleness']:.2f} | {weights} | {mean['clip_fraction']:.3f} |")
    lines += ["", "Means over the updates. The first update of a run has nothing that was played ahead. Learning takes longer while servers play, as the"]
    lines += ["learner sends their requests and steps the environments in the same process."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.16)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    small = {"updates": 2, "demos": 50, "eval_episodes": 20}
    found = measure(1, options.latency, small) if options.quick else measure(options.seeds, options.latency, {})
    text = page(found, options.latency, shlex.join(["python", "benchmarks/overlap.py", *sys.argv[1:]]))
    print(text)
    if not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
