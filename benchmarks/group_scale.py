"""What group-relative credit learns from where the verdict tells nothing apart: groups in which all episodes succeed, or all fail.

    python benchmarks/group_scale.py --run runs/table/cells/sft-0/run --run runs/table/cells/sft-1/run

Plays groups of episodes with the policy of each run, sampled, on training tasks of its suite, with the shaper ``steptool``. In a group
whose episodes all end the same, returns still differ by the small rewards of the steps. Shown is which share of the sum of |A| over all
steps lies there: ``rloo`` keeps the scale of the returns; ``grpo`` and ``gigpo-std`` divide by the standard deviation of the group, so
that a difference of a few hundredths counts as much there as the verdict does elsewhere. A minute a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steptool_agents import CREDIT, Trajectory, load_policy, rollout
from steptool_agents.learning.advantages import as_episodes
from steptool_env import StepToolEnv, make_shaper, make_suite

SCHEMES = ("rloo", "grpo", "gigpo-std")


def settled(trajectories: Sequence[Trajectory], group: int) -> NDArray[np.bool_]:
    """(B,) True in groups whose episodes all have the same verdict; each ``group`` trajectories in a row are one."""
    verdicts = np.array([one.success for one in trajectories]).reshape(-1, group)
    return np.repeat(np.ptp(verdicts, axis=1) == 0.0, group)


def share(trajectories: Sequence[Trajectory], scheme: str, chosen: NDArray[np.bool_]) -> float:
    """Return the share of Σ|A| over steps, at γ = 1, that lies in the chosen trajectories (B,); 0 if all A are 0."""
    sizes = np.abs(CREDIT[scheme](as_episodes(trajectories), 1.0, 1.0)).sum(axis=1)
    return float(sizes[chosen].sum() / sizes.sum()) if sizes.any() else 0.0


def play(run: Path, group: int, episodes: int, seed: int) -> list[Trajectory]:
    """Return sampled episodes on training tasks, each task ``group`` times in a row."""
    policy, config = load_policy(run, temperature=1.0, seed=seed)
    task = config.task
    suite = make_suite(task.suite, **{**task.suite_options, "split": "train"})
    tasks = np.random.default_rng(seed).integers(len(suite), size=episodes // group).repeat(group)
    envs = [StepToolEnv(suite, make_shaper("steptool"), max_steps=task.max_steps) for _ in range(min(64, episodes))]
    return rollout(policy, envs, [int(task) for task in tasks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", required=True, help="a run's folder; may be repeated")
    parser.add_argument("--group", type=int, action="append", help="episodes of a task; may be repeated; 4 and 8 by default")
    parser.add_argument("--episodes", type=int, default=512, help="of each run")
    given = parser.parse_args()
    print(f"| episodes of a task | groups that end the same | {' | '.join(f'share of `{scheme}`' for scheme in SCHEMES)} |")
    print("|---:|---:|" + "---:|" * len(SCHEMES))
    for group in given.group or [4, 8]:
        rows = []
        for seed, run in enumerate(given.run):
            played = play(run, group, given.episodes, seed)
            same = settled(played, group)
            rows.append([same.mean(), *(share(played, scheme, same) for scheme in SCHEMES)])
        cells = [f"{100 * column.mean():.0f} % ({100 * column.min():.0f} to {100 * column.max():.0f})" for column in np.array(rows).T]
        print(f"| {group} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
