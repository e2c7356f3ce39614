"""What does a reward cost? Time of each shaper per step, whatever the length of the episode, and of a whole audit.

    python benchmarks/shaper_speed.py                 # writes benchmarks/results/shaper_speed.md
    python benchmarks/shaper_speed.py steptool --json

A shaper is timed on the transitions of a real episode, at its 5th and its 200th step, in seconds of processor time; the median
of the repeats counts. For parts that are known in hindsight, what a whole episode takes is given per step. The
audit is timed by the clock on the wall: 50 tasks of ``worlds`` level 2, thirteen policies.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from steptool_env import SHAPERS, StepToolEnv, audit
from steptool_env.rewards import Past, knows_later, label

RESULTS = Path(__file__).parent / "results" / "shaper_speed.md"
LOCAL = [name for name in SHAPERS if name != "paper-judge"]  # a judge takes as long as its server


def step_seconds(name: str, length: int, repeats: int, calls: int = 2000) -> float:
    """Return the seconds that a shaper takes for the last of ``length`` steps."""
    env = StepToolEnv("worlds", name, level=3, max_steps=length + 1)
    env.reset(options={"task": 0})
    call = env.solution()[0]
    for _ in range(length):
        env.step(call)
    assert env.episode is not None
    shaper, transitions = env.shaper, list(env.episode)
    past, samples = Past(transitions), []
    for _ in range(repeats):
        spent = 0.0
        for _ in range(calls // 100):
            memories = []
            past.pop()
            shaper(past)
            memory = dict(past.memory)
            past.append(transitions[-1])
            for _ in range(100):  # what a stateful shaper remembers must be of the step before, each time
                memories.append(dict(memory))
            start = time.process_time()
            for one in memories:
                past.memory = one
                shaper(past)
            spent += time.process_time() - start
        samples.append(spent / (calls // 100 * 100))
    return statistics.median(samples)


def hindsight_seconds(name: str) -> float | None:
    """Return the seconds per step of what is known in hindsight; None if nothing is."""
    env = StepToolEnv("worlds", name, level=3)
    if not knows_later(env.shaper):
        return None
    episodes = []
    for task in range(20):
        env.reset(options={"task": task})
        for call in env.solution():
            env.step(call)
        assert env.episode is not None
        episodes.append(list(env.episode))
    start = time.process_time()
    label(env.shaper, episodes)
    return (time.process_time() - start) / sum(map(len, episodes))


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Return the figures of one shaper."""
    early, late = (step_seconds(name, length, repeats) for length in (5, 200))
    later = hindsight_seconds(name)
    start = time.perf_counter()
    found = audit("worlds", name, level=2)
    return {
        "shaper": name,
        "us_step_5": round(1e6 * early, 2),
        "us_step_200": round(1e6 * late, 2),
        "us_hindsight_per_step": None if later is None else round(1e6 * later, 1),
        "audit_seconds": round(time.perf_counter() - start, 1),
        "audit": "passed" if found.passed else "failed",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapers", nargs="*", default=LOCAL, metavar="SHAPER", help="which shapers (default: all but paper-judge)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of which the median counts (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes")
    arguments = parser.parse_args()
    rows = [measure(name, arguments.repeats) for name in arguments.shapers]
    if arguments.json:
        print(json.dumps({"benchmark": "shaper_speed", "repeats": arguments.repeats, "results": rows}))
        return
    lines = [
        "# What a reward costs",
        "",
        f"Made by `{shlex.join(['python', 'benchmarks/shaper_speed.py', *sys.argv[1:]])}` on one core.",
        "",
        "| shaper | µs at step 5 | µs at step 200 | µs per step in hindsight | audit, seconds | audit |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        later = "-" if row["us_hindsight_per_step"] is None else f"{row['us_hindsight_per_step']:,.1f}"
        lines.append(f"| {row['shaper']} | {row['us_step_5']:.2f} | {row['us_step_200']:.2f} | {later} | {row['audit_seconds']:.1f} | {row['audit']} |")
    text = "\n".join([*lines, ""])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
