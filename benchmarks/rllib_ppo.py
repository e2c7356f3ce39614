"""Does RLlib's PPO learn on ``StepToolDiscrete-v0`` with its default network, which sees no masks?

    python benchmarks/rllib_ppo.py      # writes benchmarks/results/rllib_ppo.md

Runs in an environment of its own, since Ray needs an older Gymnasium: ``pip install . 'ray[rllib]==2.60.0' torch==2.13.0``. Level 1 with all families and
domains, as ``gym.make`` makes it; 1.5 is the best return there is. Seconds are of processor time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import gymnasium as gym

RESULTS = Path(__file__).parent / "results" / "rllib_ppo.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=50)
    given = parser.parse_args()
    from ray.rllib.algorithms.ppo import PPOConfig  # after --help: Ray is in an environment of its own
    from ray.tune import register_env

    register_env("steptool", lambda options: gym.make("steptool_env:StepToolDiscrete-v0", **options))
    config = (
        PPOConfig()
        .environment("steptool", env_config={"suite": "worlds", "level": 1})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .training(gamma=0.95, lr=3e-4, entropy_coeff=0.01, train_batch_size=2048, minibatch_size=256, num_epochs=6)
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    started, rows = time.process_time(), []
    for iteration in range(1, given.iterations + 1):
        measured = algorithm.train()["env_runners"]
        rows.append((iteration, int(measured["num_env_steps_sampled_lifetime"]), measured["episode_return_mean"], time.process_time() - started))
        print("{}: {:,} steps, return {:.3f}, {:.0f} s".format(*rows[-1]), flush=True)
    shown = [row for row in rows if row[0] == 1 or row[0] % 10 == 0]
    lines = [
        "# RLlib's PPO with its default network\n",
        f"Made by `python benchmarks/rllib_ppo.py --iterations {given.iterations}`: Ray 2.60.0, torch 2.13.0, `StepToolDiscrete-v0` in its compact form,",
        "level 1 with all families and domains. The network is RLlib's own and sees no masks. Returns are those of training, exploration included; one",
        "seed, one core, which other work shared.\n",
        "| iteration | steps | mean return | seconds of processor time |",
        "|---:|---:|---:|---:|",
        *("| {} | {:,} | {:.2f} | {:.0f} |".format(*row) for row in shown),
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
