# %% [markdown]
# # 5. stable-baselines3
#
# `StepToolDiscrete-v0` is an ordinary environment with a discrete action space, so the agents of stable-baselines3 and sb3-contrib play it.
# An action picks a tool and a value; `action_masks()` says which are valid calls now.

# %%
import gymnasium as gym

import steptool_env

env = gym.make("StepToolDiscrete-v0", suite="worlds", level=1, families=("lookup", "change"))
observation, info = env.reset(seed=0)
core = env.unwrapped
print(env.observation_space.shape, env.action_space)
print([str(core.call(action)) for action in core.action_masks().nonzero()[0]][:5])

# %% [markdown]
# An observation holds one row of numbers per action: what the tool is, whether its arguments are known, where they come from. A policy that
# scores each row by itself has few weights, and does not care in which order the actions come. `steptool_agents.interop.sb3` has such policies.
#
# Two agents, the same number of steps: one sees which actions are valid, the other does not.

# %%
import torch

from steptool_agents.interop.sb3 import SuccessCallback, evaluate, make_envs, make_model

torch.set_num_threads(1)
tasks = {"suite": "worlds", "level": 1, "families": ("lookup", "change")}


class Curve(SuccessCallback):
    """Keeps success over the last episodes, at every rollout."""

    def _on_training_start(self):
        super()._on_training_start()
        self.points = []

    def _on_rollout_end(self):
        self.points.append((self.num_timesteps, self.success))


curves, results = {}, {}
for algorithm in ("maskable-ppo", "ppo"):
    envs = make_envs(8, seed=0, **tasks)
    model, curve = make_model(algorithm, envs, seed=0), Curve()
    model.learn(12_000, callback=curve)
    curves[algorithm] = curve.points
    results[algorithm] = evaluate(model, episodes=100, split="test", **tasks)
    envs.close()

# %%
from matplotlib import pyplot as plt

plt.figure(figsize=(6, 2.8))
for algorithm, points in curves.items():
    plt.plot(*zip(*points, strict=True), label=f"{algorithm}: {results[algorithm]['success']:.0%} of held-out tasks")
plt.xlabel("steps")
plt.ylabel("success, last 200 episodes")
plt.legend()
plt.show()

# %% [markdown]
# All four algorithms, three seeds: [sb3_zoo](../../benchmarks/results/sb3_zoo.md).
