# %% [markdown]
# # 5. stable-baselines3
#
# `StepToolDiscrete-v0` is an ordinary environment with a discrete action space and a few hundred numbers, so the agents of stable-baselines3 and
# sb3-contrib play it, with the `MlpPolicy` that they come with. An action picks a tool and a value to pass on, or an answer; `action_masks()` says which
# are valid calls now.

# %%
import gymnasium as gym

import steptool_env

env = gym.make("StepToolDiscrete-v0", suite="worlds", level=1, families=("lookup", "change"))
observation, info = env.reset(seed=0)
core = env.unwrapped
print(env.observation_space.shape, env.action_space)
print(core.task.instruction)
print([str(core.call(action)) for action in core.action_masks().nonzero()[0]][-5:])

# %% [markdown]
# Each number has a name, and means the same in every task: the first value of the latest result is the one that the user's text leads to next, whatever
# the task is about. So what a network learns of a position carries over to tasks that it has never seen.

# %%
nonzero = [(name, round(float(number), 2)) for name, number in zip(core.features, observation, strict=True) if number]
print(len(core.features), "numbers;", len(nonzero), "are not zero, such as", nonzero[:4])

# %% [markdown]
# Two agents, the same number of steps: one sees which actions are valid, the other has to find out.

# %%
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from steptool_agents.interop.sb3 import SuccessCallback, evaluate

torch.set_num_threads(1)
tasks = {"suite": "worlds", "level": 1, "families": ("lookup", "change")}
settings = {"n_steps": 64, "batch_size": 256, "n_epochs": 4, "learning_rate": 1e-3, "gamma": 0.95}
network = {"net_arch": [256, 256], "activation_fn": torch.nn.ReLU}


class Curve(SuccessCallback):
    """Keeps success over the last episodes, at every rollout."""

    def _on_training_start(self):
        super()._on_training_start()
        self.points = []

    def _on_rollout_end(self):
        self.points.append((self.num_timesteps, self.success))


curves, results = {}, {}
for name, algorithm, entropy in (("MaskablePPO", MaskablePPO, 0.01), ("PPO", PPO, 0.05)):
    envs = make_vec_env("StepToolDiscrete-v0", 16, seed=0, env_kwargs=tasks)
    model, curve = algorithm("MlpPolicy", envs, seed=0, ent_coef=entropy, policy_kwargs=network, device="cpu", **settings), Curve()
    model.learn(16_000, callback=curve)
    curves[name] = curve.points
    results[name] = evaluate(model, episodes=100, split="test", **tasks)
    envs.close()

# %%
from matplotlib import pyplot as plt

plt.figure(figsize=(6, 2.8))
for name, points in curves.items():
    plt.plot(*zip(*points, strict=True), label=f"{name}: {results[name]['success']:.0%} of held-out tasks")
plt.xlabel("steps")
plt.ylabel("success, last 200 episodes")
plt.legend()
plt.show()

# %% [markdown]
# The curves are of training, with exploration; held-out tasks are played greedily. PPO has to find out which actions are calls at all, and explores more.
# All eight families of the level, three seeds, and policies that score every action by a row of its own
# (`observation="rows"`): [sb3_zoo](../../benchmarks/results/sb3_zoo.md).
