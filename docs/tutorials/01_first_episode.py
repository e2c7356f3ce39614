# %% [markdown]
# # 1. Your first episode
#
# A language model that uses tools makes a sequence of decisions: which tool to call, with which arguments, and when to answer.
# StepTool turns this into a Gymnasium environment. **One step is one tool call**, and every step earns a reward.
#
# This tutorial plays one task by hand, then compares three ways of playing many. It needs no model.

# %%
import gymnasium as gym

import steptool_env  # registers the ids

env = gym.make("StepTool-v0", suite="worlds", level=2)
obs, info = env.reset(seed=1, options={"task": 3})
print(obs["messages"][0].content)

# %% [markdown]
# The observation has two parts: `messages`, the whole transcript so far, and `tools`, the JSON schemas of the tools on offer.
# The agent sees nothing else.

# %%
import json

for schema in json.loads(obs["tools"])[:4]:
    function = schema["function"]
    print(function["name"], list(function["parameters"]["properties"]), "-", function["description"])

# %% [markdown]
# A mistake of the agent is never an exception. It comes back as an observation that says what was wrong, and costs a little:

# %%
obs, reward, terminated, truncated, info = env.step({"name": "get_weather", "arguments": {}})
print(obs["messages"][-1].content)
print(reward, info["reward_parts"], info["tool_error"])

# %% [markdown]
# The suite `worlds` generates its tasks, so it knows their exact solution. Let it play:

# %%
for call in env.unwrapped.solution():
    obs, reward, terminated, truncated, info = env.step({"name": call.name, "arguments": call.arguments})
    print(f"{reward:+.2f}  {call}  →  {obs['messages'][-1].content[:70]}")
print("solved:", info["success"])

# %% [markdown]
# Each useful call earned its share of the progress (`con`), and the last step the verdict on the whole task (`solved`).
#
# ## Many episodes
#
# `evaluate` plays a policy on held-out tasks. Three policies need no model: the oracle, random valid calls, and one that gives up at once.

# %%
from matplotlib import pyplot as plt

from steptool_agents import Generation, OraclePolicy, RandomPolicy, evaluate
from steptool_env import ToolCall, make_suite


class GiveUp:
    """Ends every episode with its first step."""

    def act(self, observations, envs):
        return [Generation("", ToolCall("finish", {"answer": "", "give_up": True})) for _ in envs]


suite = make_suite("worlds", level=2, split="test")
policies = {"oracle": OraclePolicy(), "random calls": RandomPolicy(seed=0), "give up": GiveUp()}
played = {name: evaluate(policy, suite, range(50))[1] for name, policy in policies.items()}

figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
axes[0].barh(list(played), [sum(one.success for one in episodes) / len(episodes) for episodes in played.values()])
axes[0].set_xlabel("success")
for name, episodes in played.items():
    axes[1].hist([one.rewards.sum() for one in episodes], bins=20, alpha=0.6, label=name)
axes[1].set_xlabel("sum of rewards in an episode")
axes[1].legend(loc="upper center")
plt.show()

# %% [markdown]
# **Next:** [your own tool and task](02_own_tool.py).
