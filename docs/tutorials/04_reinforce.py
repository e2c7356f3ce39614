# %% [markdown]
# # 4. REINFORCE in sixty lines of torch
#
# No library of algorithms, and no language model. With `observation="rows"`, `StepToolDiscrete-v0` describes each possible tool call by a row of
# numbers, so a policy is a small network that scores rows. It learns in half a minute.

# %%
import gymnasium as gym
import torch
from matplotlib import pyplot as plt
from torch import nn

from steptool_env.wrappers.discrete import FEATURES

torch.manual_seed(0)
options = {"families": ("lookup", "change"), "domains": ("shop", "travel", "clinic")}
env = gym.make("StepToolDiscrete-v0", suite="worlds", level=1, observation="rows", values=8, **options)
env.reset(seed=0)
core = env.unwrapped
policy = nn.Sequential(nn.Linear(len(FEATURES), 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)


def distribution(observations):
    """Score every row; a row that is no valid call now (its first feature is 0) gets no probability."""
    rows = core.rows(observations)  # (B, actions, features)
    scores = policy(rows).squeeze(-1)
    return torch.distributions.Categorical(logits=scores.masked_fill(rows[..., 0] == 0, -1e9))


def play(env, task=None, greedy=False):
    """One episode: observations (T, n), actions (T,), rewards (T,), and whether the task was solved."""
    observation, info = env.reset(options={"task": task})
    observations, actions, rewards, over = [], [], [], False
    while not over:
        observations.append(torch.from_numpy(observation))
        with torch.no_grad():
            dist = distribution(observations[-1][None])
        action = dist.probs.argmax() if greedy else dist.sample()
        observation, reward, terminated, truncated, info = env.step(action.item())
        actions.append(action.item())
        rewards.append(reward)
        over = terminated or truncated
    return torch.stack(observations), torch.tensor(actions), torch.tensor(rewards), info["success"]


# %% [markdown]
# The loop is the textbook's. The return of a step is the sum of the rewards from that step on: what an action earned is what came after it.

# %%
curve = []
for _ in range(150):
    episodes = [play(env) for _ in range(32)]
    returns = torch.cat([rewards.flip(0).cumsum(0).flip(0) for _, _, rewards, _ in episodes])
    dist = distribution(torch.cat([observations for observations, *_ in episodes]))
    chosen = dist.log_prob(torch.cat([actions for _, actions, *_ in episodes]))
    advantages = (returns - returns.mean()) / (returns.std() + 1e-6)
    loss = -(advantages * chosen).mean() - 0.01 * dist.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    curve.append(sum(success for *_, success in episodes) / len(episodes))

# %% [markdown]
# Held-out tasks, played greedily:

# %%
test = gym.make("StepToolDiscrete-v0", suite="worlds", level=1, observation="rows", values=8, split="test", **options)
success = sum(play(test, task=task, greedy=True)[-1] for task in range(100)) / 100
assert success >= 0.9

plt.figure(figsize=(6, 2.8))
plt.plot(curve, label="training tasks, sampled")
plt.axhline(success, color="tab:green", linestyle="--", label=f"held-out tasks, greedy: {success:.0%}")
plt.xlabel("update of 32 episodes")
plt.ylabel("success")
plt.legend()
plt.show()

# %% [markdown]
# ## Exercises
#
# 1. Replace the return of each step by the sum of *all* rewards of its episode. What happens to the curve, and why?
# 2. Subtract the mean return *of the same step number* instead of the mean over all steps.
#
# <details markdown="1"><summary>Solutions</summary>
#
# 1. `returns = torch.cat([rewards.sum().expand(len(rewards)) for _, _, rewards, _ in episodes])`. It still learns, but more slowly: now an action is
#    also praised for what came before it, which it cannot have caused. That is noise in the gradient.
# 2. Pad the returns to a matrix (episodes, steps), subtract the mean of each column over the episodes that are still running, and take the
#    entries out again. Later steps have smaller returns, whatever is done, so a baseline per step has less variance.
# </details>
#
# **Next:** [stable-baselines3](05_stable_baselines3.py).
