"""How much faster do two processes play than one? ``tiny`` on ``worlds``, one thread each, the same number of episodes in all.

    python benchmarks/processes.py            # writes benchmarks/results/processes.md; needs as many idle cores as processes

Each process holds the model and its environments, as under ``accelerate launch``, and plays its share. The time is that from the
moment at which all are ready to that at which the last is done; one process and several take turns, medians count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "processes.md"


def work(share: int, episodes: int, ready: Any, done: Any) -> None:
    """Play a share of the episodes whenever told to."""
    import torch

    from steptool_agents import Config, LMPolicy, load_model, rollout
    from steptool_env import StepToolEnv, make_suite

    torch.set_num_threads(1)
    config = Config()
    suite = make_suite(config.task.suite, **config.task.suite_options, split="train")
    envs = [StepToolEnv(suite, config.task.shaper) for _ in range(64)]
    policy = LMPolicy(load_model("tiny"), max_new_tokens=config.rollout.max_new_tokens, token_budget=config.model.token_budget, seed=share)
    done.put("loaded")
    while (count := ready.get()) is not None:
        rollout(policy, envs, [(share * 1000 + k) % len(suite) for k in range(count)])
        done.put("played")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="32 episodes, once; writes no page")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.episodes, options.repeats = 32, 1
    os.environ["OMP_NUM_THREADS"] = "1"
    context = mp.get_context("spawn")
    queues = [context.Queue() for _ in range(options.processes)]
    done = context.Queue()
    workers = [context.Process(target=work, args=(share, options.episodes, queue, done)) for share, queue in enumerate(queues)]
    for worker in workers:
        worker.start()
    say(options, f"{options.processes} processes start")
    for _ in workers:
        done.get(timeout=300)

    def play(count: int) -> float:
        start = time.perf_counter()
        for queue in queues[:count]:
            queue.put(options.episodes // count)
        for _ in range(count):
            done.get(timeout=600)
        return time.perf_counter() - start

    play(options.processes)
    pairs = []
    for _ in range(options.repeats):
        pairs.append((play(1), play(options.processes)))
        say(options, f"{len(pairs)} of {options.repeats}: one process {pairs[-1][0]:.1f} s, all {pairs[-1][1]:.1f} s")
    for queue, worker in zip(queues, workers, strict=True):
        queue.put(None)
        worker.join()
    found = {
        "processes": options.processes,
        "episodes": options.episodes,
        "one_s": statistics.median(one for one, _ in pairs),
        "all_s": statistics.median(many for _, many in pairs),
        "ratio": statistics.median(one / many for one, many in pairs),
    }
    if options.json:
        print(json.dumps(found))
        return
    text = f"# Rollouts in {options.processes} processes\n\n`{shlex.join(['python', 'benchmarks/processes.py', *sys.argv[1:]])}`\n\n"
    text += "| episodes | one process, s | all, s | ratio |\n|---|---|---|---|\n"
    text += f"| {found['episodes']} | {found['one_s']:.2f} | {found['all_s']:.2f} | **{found['ratio']:.2f}** |\n"
    print(text)
    if not options.quick:
        RESULTS.write_text(text, encoding="utf-8")


def say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
