"""How well does each credit scheme tell useful steps from useless and harmful ones? Graded by what every call really contributed.

    python benchmarks/credit_quality.py --out runs/credit_quality     # trains, resumes when killed; then measures
    python benchmarks/credit_quality.py --from runs/credit_quality    # measures again, from the stored episodes
    python benchmarks/credit_quality.py --redraw                      # draws the picture again, from the page

Two runs per seed train ``tiny`` on ``worlds`` with calls of depth 1 to 6: one with the reward of every step (``step-ppo``), one with the
verdict alone (``ppo-final``). At several updates the policy plays groups of 8 episodes of training tasks, as it is, and with a fifth of its
calls failing. Every scheme of ``CREDIT`` turns their rewards into advantages. The truth about a call is the change of the exact progress:
needed records read and changes made, less harm done; answers are left out, the verdict pays for them.

AUC: the chance that a call that contributed has a higher advantage than one that did not; ties count half, so a scheme that says nothing has
.5. "Within" compares only calls of the same episode, where the task's difficulty explains nothing. Brackets: 95 % percentile intervals from
resampled tasks.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contribution import auc, spearman
from numpy.typing import NDArray

from steptool_agents import CREDIT, Config, Loop, Run, Trajectory, read_jsonl, rollout, write_jsonl
from steptool_agents.algorithms import algorithm_settings
from steptool_agents.config import Layer, configure
from steptool_agents.experiments.grid import TASKS
from steptool_agents.learning.advantages import as_episodes, assign_credit
from steptool_agents.learning.critic import warm_up_critic
from steptool_agents.learning.optimizer import policy_optimizer
from steptool_agents.learning.policy_gradient import improve
from steptool_env import StepToolEnv
from steptool_env.files import write_bytes
from steptool_env.tasks.wrapped import Faulty

RESULTS = Path(__file__).parent / "results" / "credit_quality.md"
RUNS = {"step": "step-ppo", "final": "ppo-final"}
"""What is rewarded -> the algorithm that trains with it."""
GROUP, FAULTS = 8, (0.0, 0.2)
SMALLER = (2, 4)
LAM = {"step": 0.5, "token": 0.95, "bilevel": 0.95, "reference": 0.95}
"""λ of the schemes that have one, as in the tables; ``step`` on the final reward has that of ``ppo-final``, .9."""
WITH_CRITIC = ("step", "token", "trajectory", "bilevel", "reference")
TABLE = Path(__file__).parent / "results" / "paper_credit.md"
ROWS = {"rloo": "RLOO", "grpo": "GRPO", "gigpo-std": "GiGPO", "step": "StepTool", "token": "token credit", "bilevel": "bilevel credit"}
"""Scheme -> its row in the table of trained policies."""
BY_STAGE = "### AUC by stage of training"
COLORS = (*(f"C{number}" for number in range(10)), "black", "darkgoldenrod", "navy", "olivedrab")
"""One for each scheme."""

Floats = NDArray[np.float64]


# ---------------------------------------------------------------- play
@dataclass(frozen=True)
class Stage:
    """Where the episodes of one measurement are."""

    folder: Path
    update: int

    def episodes(self, faults: float) -> Path:
        return self.folder / f"update-{self.update:03d}-faults-{faults:g}.jsonl"

    def heads(self, faults: float) -> Path:
        """Values of the same states by the critics of earlier stages."""
        return self.folder / f"update-{self.update:03d}-faults-{faults:g}.json"


def settings(reward: str, seed: int, updates: int, episodes: int) -> Config:
    """Return the settings of a run: the algorithm's own, on the tasks of the tables."""
    chosen = {"algo": RUNS[reward], "suite_options": TASKS, "seed": seed, "updates": updates, "episodes": episodes, "eval_episodes": 20}
    chosen |= {"demo_lr": 1e-3, "demo_epochs": 2, "demo_batch": 8}  # a warm start that solves more than half of these tasks
    return configure([Layer("benchmark", chosen)], algorithm_settings).config


def train(config: Config, out: Path, stages: Sequence[int], tasks: int) -> None:
    """Train as ``step_ppo`` does, and play the groups of every stage before its update; a killed run resumes."""
    learning = config.learning
    with Run(config, out / "run", resume=(out / "run" / "config.json").exists()) as run:
        optimizer = policy_optimizer(run.lm, learning.lr)
        loop = Loop(run, optimizer)
        if loop.at_start:
            warm_up_critic(run.passes, optimizer, assign_credit(loop.collect(), learning.gamma, 1.0), count=learning.value_passes, rng=run.rng)
            measure_at(run, Stage(out, 0), stages, tasks)
        for episodes in loop:
            credited = assign_credit(episodes, learning.gamma, learning.lam, learning.credit, learning.negative)
            loop.log(improve(run.passes, optimizer, credited, learning, run.rng, run.reference))
            if run.update + 1 in stages:
                measure_at(run, Stage(out, run.update + 1), stages, tasks)
            print(f"{out.name}: update {run.update + 1} of {config.run.updates}", file=sys.stderr, flush=True)


def measure_at(run: Run, stage: Stage, stages: Sequence[int], tasks: int) -> None:
    """Play groups with the policy as it is, sampled, and store them with the values of this and of earlier critics."""
    torch.save(run.lm.value_head.state_dict(), stage.folder / f"head-{stage.update:03d}.pt")
    state = run.policy.generator.get_state()  # measuring must not change the run
    suite = run.suite("train")
    chosen = np.random.default_rng(stage.update).choice(len(suite), tasks, replace=False)
    for rate in FAULTS:
        played_on = Faulty(suite, rate) if rate else suite
        envs = [StepToolEnv(played_on, run.shaper) for _ in range(64)]
        run.policy.forget()
        run.policy.generator.manual_seed(stage.update)
        with run.lm.whole():
            episodes = rollout(run.policy, envs, [int(task) for task in chosen for _ in range(GROUP)])
        values: dict[int, list[list[float]]] = {}
        for earlier in [one for one in stages if one <= stage.update]:
            head = copy.deepcopy(run.lm.value_head)
            head.load_state_dict(torch.load(stage.folder / f"head-{earlier:03d}.pt", weights_only=True))
            read = run.passes.measure(episodes, lambda encoded, head=head: encoded.by_trajectory(head(encoded.states, encoded.tasks), "steps"))
            values[earlier] = [one.tolist() for one in read]
        run.passes.tokens = 0
        write_jsonl(stage.episodes(rate), episodes)
        write_bytes(stage.heads(rate), json.dumps(values).encode())
    run.policy.forget()
    run.policy.generator.set_state(state)


# ---------------------------------------------------------------- grade
def truth(episode: Trajectory) -> Floats:
    """(T,) the change of the exact progress by each step; NaN for answers, which are not graded."""
    steps = [step.transition for step in episode.steps]
    return np.array([np.nan if getattr(one.action, "name", "") == "finish" else one.progress - one.progress_before for one in steps])


def advantages(episodes: Sequence[Trajectory], scheme: str, reward: str) -> list[Floats]:
    """Return what a scheme gives to each step (T,), before any scaling over the batch; the mean over its tokens where it differs among them."""
    batch = as_episodes(episodes)
    lam = 0.9 if (scheme, reward) == ("step", "final") else LAM.get(scheme, 1.0)
    found = CREDIT[scheme](batch, 0.99 if scheme == "reference" else 1.0, lam)
    if found.ndim == 3:
        found = found.sum(axis=2) / np.maximum(batch.tokens, 1)
    return [row[: len(episode.steps)] for row, episode in zip(found, episodes, strict=True)]


def grade(scores: Sequence[Floats], gains: Sequence[Floats], tasks: Sequence[str], resamples: int = 400) -> dict[str, tuple[float, float, float]]:
    """Return AUC, AUC within episodes, and Spearman's ρ, each with the ends of its interval."""
    kept = [~np.isnan(gain) for gain in gains]
    score = [one[keep] for one, keep in zip(scores, kept, strict=True)]
    gain = [one[keep] for one, keep in zip(gains, kept, strict=True)]
    inside = np.array([auc(a, b > 0) for a, b in zip(score, gain, strict=True)])
    names, owner = np.unique(list(tasks), return_inverse=True)
    of_task = [np.flatnonzero(owner == k) for k in range(len(names))]

    def all_three(chosen: Sequence[int]) -> tuple[float, float, float]:
        members = np.concatenate([of_task[k] for k in chosen])
        a, b = (np.concatenate([part[k] for k in members]) for part in (score, gain))
        within = inside[members]
        return auc(a, b > 0), float(np.nanmean(within)) if not np.isnan(within).all() else float("nan"), spearman(a, b)

    rng = np.random.default_rng(0)
    draws = np.array([all_three(rng.integers(len(names), size=len(names)).tolist()) for _ in range(resamples)])
    point = all_three(range(len(names)))
    ends = [np.nanquantile(column, (0.025, 0.975)) if not np.isnan(column).all() else (np.nan, np.nan) for column in draws.T]
    return {name: (value, float(low), float(high)) for name, value, (low, high) in zip(("auc", "within", "rho"), point, ends, strict=True)}


def graded_by(scheme: str, reward: str, episodes: Sequence[Trajectory]) -> dict[str, tuple[float, float, float]]:
    """Return the grades of a scheme on episodes."""
    return grade(advantages(episodes, scheme, reward), list(map(truth, episodes)), [one.task.id for one in episodes])


def with_values(episodes: Sequence[Trajectory], values: Sequence[Sequence[float]]) -> list[Trajectory]:
    """Return the episodes with other values of their states."""
    made = []
    for episode, row in zip(episodes, values, strict=True):
        steps = [replace(step, generation=replace(step.generation, value=value)) for step, value in zip(episode.steps, row, strict=True)]
        made.append(replace(episode, steps=tuple(steps)))
    return made


def smaller(episodes: Sequence[Trajectory], size: int) -> list[Trajectory]:
    """Return the first episodes of every group of ``GROUP``."""
    return [episode for k, episode in enumerate(episodes) if k % GROUP < size]


def load(stage: Stage, faults: float) -> tuple[list[Trajectory], dict[int, list[list[float]]]]:
    episodes = read_jsonl(stage.episodes(faults))
    values = {int(age): rows for age, rows in json.loads(stage.heads(faults).read_text(encoding="utf-8")).items()}
    return with_values(episodes, values[stage.update]), values


def table(title: str, columns: Mapping[str, Sequence[Trajectory]], reward: str, schemes: Sequence[str]) -> list[str]:
    """Return a table with a row per scheme and a column per set of episodes."""
    lines = ["", f"### {title}", "", f"| scheme | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for scheme in schemes:
        graded = [graded_by(scheme, reward, part)["auc"] for part in columns.values()]
        lines.append(f"| `{scheme}` | " + " | ".join(map(shown, graded)) + " |")
    return lines


def shown(value: tuple[float, float, float]) -> str:
    middle, low, high = value
    return "–" if np.isnan(middle) else f"{middle:.3f} ({low:.3f} to {high:.3f})"


def order(graded: Mapping[str, float], page: str) -> tuple[int, float]:
    """Return how many schemes have a row in the table of trained policies, and the rank correlation of AUC and success there."""
    success = {}
    for scheme, row in ROWS.items():
        line = next((one for one in page.splitlines() if one.startswith(f"| {row} | ") and "/" in one), None)
        if line is not None and scheme in graded:
            success[scheme] = float(line.split("|")[2].split()[0])
    names = list(success)
    return len(names), spearman(np.array([graded[name] for name in names]), np.array([success[name] for name in names]))


def report(out: Path, stages: Sequence[int], seeds: Sequence[int], command: str, picture: Path) -> str:
    """Grade everything that is stored, draw the picture, and return the page."""
    last = max(stages)
    lines = ["# Credit, graded by the truth", "", f"Made by `{command}`.", "", *(__doc__ or "").strip().splitlines()[6:]]
    curves: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for reward in RUNS:
        pooled = {(update, rate): [load(Stage(out / f"{reward}-{seed}", update), rate) for seed in seeds] for update in stages for rate in FAULTS}

        def episodes(update: int, rate: float = 0.0, pooled: Any = pooled) -> list[Trajectory]:
            """All seeds together; tasks of different seeds are different groups."""
            found = []
            for seed, (part, _) in zip(seeds, pooled[update, rate], strict=True):
                found += [replace(one, steps=tuple(_in_seed(step, seed) for step in one.steps)) for one in part]
            return found

        final = episodes(last)
        calls = np.concatenate(list(map(truth, final)))
        calls = calls[~np.isnan(calls)]
        lines += ["", f"## Rewards: {'every step, shaper `steptool`' if reward == 'step' else 'the verdict alone, shaper `final`'}", ""]
        lines += [
            f"After {last} updates: {len(final)} episodes, {np.mean([one.success for one in final]):.1%} solved, {len(calls)} calls before answers, of which "
            f"{np.mean(calls > 0):.1%} contributed and {np.mean(calls < 0):.1%} did harm."
        ]
        schemes = list(CREDIT)
        graded = {scheme: graded_by(scheme, reward, final) for scheme in schemes}
        lines += ["", f"### After {last} updates", "", "| scheme | AUC | AUC within an episode | Spearman's ρ |", "|---|---:|---:|---:|"]
        for scheme in sorted(schemes, key=lambda name: -graded[name]["auc"][0]):
            lines.append(f"| `{scheme}` | " + " | ".join(shown(graded[scheme][key]) for key in ("auc", "within", "rho")) + " |")
        if reward == "step" and TABLE.exists():
            count, rho = order({scheme: graded[scheme]["auc"][0] for scheme in schemes}, TABLE.read_text(encoding="utf-8"))
            where = "[the table](paper_credit.md)"
            lines += ["", f"Rank correlation of AUC with the success of trained policies, over the {count} schemes that have a row in {where}: {rho:.2f}."]
            lines[-1] += " Of these, those with a critic and those without differ in their optimizer, too, so that it does not say that the AUC is the reason."
        by_stage = {f"update {update}": episodes(update) for update in stages}
        curves[reward] = {scheme: [graded_by(scheme, reward, part)["auc"] for part in by_stage.values()] for scheme in schemes}
        lines += ["", BY_STAGE, "", f"| scheme | {' | '.join(by_stage)} |", "|---|" + "---:|" * len(by_stage)]
        lines += [f"| `{scheme}` | " + " | ".join(map(shown, curves[reward][scheme])) + " |" for scheme in schemes]
        depths = {f"depth {a} to {b}": [one for one in final if a <= int(one.task.tags["depth"]) <= b] for a, b in ((1, 2), (3, 4), (5, 6))}
        lines += table("AUC by depth", {name: part for name, part in depths.items() if part}, reward, schemes)
        failing = {f"update {update}": episodes(update, FAULTS[1]) for update in stages}
        lines += table(f"AUC when {FAULTS[1]:.0%} of the calls fail", failing, reward, schemes)
        groups = {f"groups of {size}": smaller(final, size) for size in SMALLER} | {f"groups of {GROUP}": final}
        lines += table("AUC by group size", groups, reward, [name for name in schemes if name not in WITH_CRITIC])
        ages = {}
        for age in stages:
            found = []
            for seed, (part, values) in zip(seeds, pooled[last, 0.0], strict=True):
                found += [replace(one, steps=tuple(_in_seed(step, seed) for step in one.steps)) for one in with_values(part, values[age])]
            ages[f"critic of update {age}"] = found
        lines += table("AUC by the age of the critic", ages, reward, [name for name in WITH_CRITIC if name != "reference"])
    draw(curves, stages, picture)
    return "\n".join([*lines, "", f"![AUC by stage of training]({picture.name})", ""])


def _in_seed(step: Any, seed: int) -> Any:
    task = step.transition.task
    return replace(step, transition=step.transition._replace(task=replace(task, id=f"{seed}/{task.id}")))


def draw(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]], stages: Sequence[int], path: Path) -> None:
    """Draw AUC over training, one panel per reward."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
    for axis, (reward, schemes) in zip(axes, curves.items(), strict=True):
        for number, (color, (scheme, points)) in enumerate(zip(COLORS[: len(schemes)], schemes.items(), strict=True)):
            middle, low, high = np.array(points).T
            axis.plot(stages, middle, "os^Dv"[number % 5] + "-", color=color, markersize=4, label=scheme)
            axis.fill_between(stages, low, high, color=color, alpha=0.12)
        axis.axhline(0.5, color="gray", linewidth=0.8)
        axis.set_xlabel("update")
        axis.set_title("reward of every step" if reward == "step" else "verdict alone")
    axes[0].set_ylabel("AUC: useful against useless and harmful calls")
    axes[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def drawn(page: str) -> tuple[dict[str, dict[str, list[tuple[float, float, float]]]], list[int]]:
    """Return the curves and the stages of the picture, as the page has them."""
    curves: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    stages: list[int] = []
    for reward, part in zip(RUNS, page.split(BY_STAGE)[1:], strict=True):
        head, _, *rows = part.partition("\n###")[0].strip().splitlines()
        stages = [int(number) for number in re.findall(r"update (\d+)", head)]
        curves[reward] = {}
        for row in rows[: next((k for k, row in enumerate(rows) if not row.startswith("|")), None)]:
            name, *cells = row.strip("| ").split(" | ")
            curves[reward][name.strip("`")] = [(a, b, c) for a, b, c in (map(float, re.findall(r"[-\d.]+", cell)) for cell in cells)]
    return curves, stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/credit_quality"))
    parser.add_argument("--from", dest="source", type=Path, help="measure what is stored there; train nothing")
    parser.add_argument("--redraw", action="store_true", help="only draw the picture again, from the page")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 5, 15, 40], help="updates at which episodes are played; the last one ends training")
    parser.add_argument("--episodes", type=int, default=128, help="of each update")
    parser.add_argument("--tasks", type=int, default=64, help=f"of each measurement, {GROUP} episodes each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    picture = given.results.with_suffix(".png")
    if given.redraw:
        draw(*drawn(given.results.read_text(encoding="utf-8")), picture)
        return
    stages, seeds, out = sorted({0, *given.stages}), range(given.seeds), given.source or given.out
    if given.source is None:
        for seed in seeds:
            for reward in RUNS:
                folder = out / f"{reward}-{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                if not all(Stage(folder, update).heads(rate).exists() for update in stages for rate in FAULTS):
                    train(settings(reward, seed, max(stages), given.episodes), folder, stages, given.tasks)
    command = shlex.join(["python", "benchmarks/credit_quality.py", *sys.argv[1:]])
    given.results.parent.mkdir(parents=True, exist_ok=True)
    text = report(out, stages, seeds, command, picture)
    given.results.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
