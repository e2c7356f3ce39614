"""What does a cell of the table cost to train? Processor time of ``step-ppo`` with ``tiny`` and the table's budget, beside another version.

    python benchmarks/cell_time.py                     # this version, printed only
    python benchmarks/cell_time.py --against FOLDER    # beside another version, whose checkout lies in the folder

The second writes benchmarks/results/cell_time.md. One thread, the settings that a run has by default, warm start and evaluations included. Both
versions train in processes of their own, in turn, with the same seeds. Runs go their own ways after some updates, and the better policy writes
shorter episodes; so the time per token counts, too.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "cell_time.md"
STEPS = 20_000


def train(seed: int, steps: int) -> dict[str, float]:
    """Train one cell, and return what it took."""
    import torch

    import steptool_agents
    from steptool_agents.config import Config

    torch.set_num_threads(1)
    make = getattr(Config, "of", Config)
    config = make(budget_steps=steps, updates=10_000, eval_episodes=20, seed=seed)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        steptool_agents.load_algorithm("step-ppo")(config, Path(folder) / "run")
        last = json.loads((Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    spent = time.process_time() - started
    return {"a cell": spent, "a million tokens": spent / (last["model_tokens"] / 1e6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.against is None:
        found = train(options.seed, options.steps)
        print(json.dumps(found) if options.json else "\n".join(f"{name}: {seconds:.1f} s" for name, seconds in found.items()))
        return
    from versions import ratios, table

    rows = ratios(__file__, ["--json", "--steps", str(options.steps), "--seed", str(options.seed)], options.against, options.pairs)
    command = shlex.join(["python", "benchmarks/cell_time.py", *sys.argv[1:]])
    text = "\n".join(["# Time to train a cell of the table", "", f"`{command}`, processor time, one thread, {options.steps:,} environment steps:", ""])
    text += "\n\n    " + table(rows, "s").replace("\n", "\n    ") + "\n"
    print(json.dumps(rows) if options.json else text)
    if options.steps == STEPS:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
