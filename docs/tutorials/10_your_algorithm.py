# %% [markdown]
# # 10. Your own algorithm, compared in one command
#
# You have an idea for a learner. Is it better than what is there? That takes the same tasks, the same warm start, several seeds, held-out
# tasks and an interval: `steptool ablate` does all of it, and your algorithm is one level of a factor.
#
# ## An algorithm in a file
#
# An algorithm is a function of the settings and a folder. `Run` and `Loop` bring what all algorithms share: warm start, playing, counting, evaluation,
# checkpoints. What is left is the idea. This one: play, keep the better half of the episodes, imitate it.

# %%
from pathlib import Path

Path("better_half.py").write_text('''
from steptool_agents import Loop, Run, imitate, policy_optimizer

SETTINGS = {"lr": 4e-4}  # what differs from the defaults; --set wins


def train(config, out, *, resume=False, console=None):
    """Imitate the better half of the episodes of every update."""
    with Run(config, out, resume=resume, console=console) as run:
        optimizer = policy_optimizer(run.lm, config.learning.lr)
        loop = Loop(run, optimizer, note="loss {loss:.2f}")
        for episodes in loop:
            best = sorted(episodes, key=lambda episode: -episode.rewards.sum())[: len(episodes) // 2]
            losses = [imitate(run.passes, optimizer, best[part::4]) for part in range(4)]  # four steps of the optimizer
            loop.log({"loss": sum(losses) / len(losses)})
        return loop.report()
''')

# %% [markdown]
# ## The comparison
#
# Three learners, three seeds: StepTool's `step-ppo`; `sft`, which is the warm start and nothing else; and the file. The model is `tiny`, and the
# settings of the last line make the runs so short that all nine fit into a tutorial. Without them every run is that of `steptool train`.

# %%
import shlex
import subprocess

command = """
    steptool ablate algo=step-ppo,sft,better_half.py --seeds 3 --tasks 60 --processes 2 --out comparison
    --set suite.depth=[1,2] --set demos=100 --set updates=4 --set episodes=32 --set epochs=1 --set minibatches=4 --set lr=1e-3 --set eval_episodes=1
"""
print(subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# The folder `comparison` holds one run for each learner and seed, with a report of its own, and the table and picture of them all. Read the
# differences, not the successes: all learners played the same tasks after the same warm start, so a difference is known better than either success.

# %%
import json

effects = json.loads(Path("comparison/ablation.json").read_text())["effects"]
assert [effect["level"].rpartition("/")[2] for effect in effects] == ["step-ppo", "sft", "better_half.py"]
for effect in effects[1:]:
    low, high = 100 * effect["change_low"], 100 * effect["change_high"]
    verdict = "cannot be told apart" if low <= 0 <= high else "seem to differ"
    print(f"{effect['level'].rpartition('/')[2]} less step-ppo: {100 * effect['change']:+.1f} points ({low:+.1f} to {high:+.1f}), they {verdict}")

# %%
from matplotlib import image
from matplotlib import pyplot as plt

figure, axis = plt.subplots(figsize=(4.6, 3.9), layout="constrained")
axis.imshow(image.imread("comparison/ablation.png"))
axis.set_axis_off()
plt.show()

# %% [markdown]
# What does it show? That 128 episodes are hardly any training: the learners are still close to their warm start, `sft`. An interval that misses 0 by a
# little is no proof at this size, because three seeds say little about a fourth one. When this page was written, `better_half` was
# below `step-ppo` by 5.0 points (0.6 to 11.7); with the learning rates that the two have by default, and otherwise nearly the same settings, it was
# above by 0.4 (0.0 to 1.7). A picture without intervals would have named a winner both times, and not the same one. Before you
# believe in a difference, or in its absence, give each run what `steptool train` gives it, and more seeds:
#
# ```bash
# steptool ablate algo=step-ppo,sft,better_half.py --seeds 5 --out in-earnest
# ```
#
# These are fifteen runs of some minutes each, and the command goes on where it was stopped. What differences look like then:
# [the paper's comparison](../../benchmarks/results/paper_table.md), where `step-ppo` leads its warm start by far and other learners by little.
#
# All that an algorithm can use: [algorithms](../algorithms.md#your-own). **Back to:** [all tutorials](index.md).
