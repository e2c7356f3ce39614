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

options = {"families": ("lookup", "change"), "domains": ("shop", "travel", "clinic")}
env = gym.make("StepToolDiscrete-v0", suite="worlds", level=1, observation="rows", values=8, **options)
env.reset(seed=0)
core = env.unwrapped


def distribution(policy, observations):
    """Score every row; a row that is no valid call now (its first feature is 0) gets no probability."""
    rows = core.rows(observations)  # (B, actions, features)
    scores = policy(rows).squeeze(-1)
    return torch.distributions.Categorical(logits=scores.masked_fill(rows[..., 0] == 0, -1e9))


def play(policy, env, task=None, greedy=False):
    """One episode: observations (T, n), actions (T,), rewards (T,), and whether the task was solved."""
    observation, info = env.reset(options={"task": task})
    observations, actions, rewards, over = [], [], [], False
    while not over:
        observations.append(torch.from_numpy(observation))
        with torch.no_grad():
            dist = distribution(policy, observations[-1][None])
        action = dist.probs.argmax() if greedy else dist.sample()
        observation, reward, terminated, truncated, info = env.step(action.item())
        actions.append(action.item())
        rewards.append(reward)
        over = terminated or truncated
    return torch.stack(observations), torch.tensor(actions), torch.tensor(rewards), info["success"]


# %% [markdown]
# The loop is the textbook's. The return of a step is the sum of the rewards from that step on: what an action earned is what came after it.

# %%
def to_go(rewards):
    return rewards.flip(0).cumsum(0).flip(0)


def train(returns_of=to_go, seed=0, updates=150):
    """Return the policy, and success in every update."""
    torch.manual_seed(seed)
    env.reset(seed=seed)
    policy, curve = nn.Sequential(nn.Linear(len(FEATURES), 64), nn.ReLU(), nn.Linear(64, 1)), []
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    for _ in range(updates):
        episodes = [play(policy, env) for _ in range(32)]
        returns = torch.cat([returns_of(rewards) for _, _, rewards, _ in episodes])
        dist = distribution(policy, torch.cat([observations for observations, *_ in episodes]))
        chosen = dist.log_prob(torch.cat([actions for _, actions, *_ in episodes]))
        advantages = (returns - returns.mean()) / (returns.std() + 1e-6)
        loss = -(advantages * chosen).mean() - 0.01 * dist.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(sum(success for *_, success in episodes) / len(episodes))
    return policy, curve


policy, curve = train()

# %% [markdown]
# Held-out tasks, played greedily:

# %%
test = gym.make("StepToolDiscrete-v0", suite="worlds", level=1, observation="rows", values=8, split="test", **options)
success = sum(play(policy, test, task=task, greedy=True)[-1] for task in range(100)) / 100
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
# 1. Replace the return of each step by the sum of *all* rewards of its episode. What happens to the curve, and why? Look at more than one seed.
# 2. Is it worth subtracting the mean return *of the same step number* instead of the mean over all steps? Play 100 episodes, and compare how far the
#    returns scatter around the one and around the other, for an untrained policy and for the trained one.
#
# <details markdown="1"><summary>Solution of 1</summary>
#
# ```python
# def all_of_it(rewards):
#     return rewards.sum().expand(len(rewards))
#
# print("mean success of 30 updates each")
# for returns_of in (to_go, all_of_it):
#     for seed in range(2):
#         _, learning = train(returns_of, seed)
#         print(f"{returns_of.__name__:9}", *(f"{sum(learning[first : first + 30]) / 30:.2f}" for first in range(0, 150, 30)))
# ```
# ```text
# mean success of 30 updates each
# to_go     0.00 0.01 0.10 0.74 0.93
# to_go     0.00 0.03 0.41 0.88 0.94
# all_of_it 0.00 0.01 0.16 0.72 0.92
# all_of_it 0.00 0.02 0.36 0.89 0.96
# ```
#
# Nothing that could be seen. An action is now also praised for what came before it, which it cannot have caused. That is noise in the gradient, but
# in episodes of two or three steps it is little. [Tutorial 7](07_wrong_credit.py) has a reward for which this mistake is dear.
# </details>
#
# <details markdown="1"><summary>Solution of 2</summary>
#
# ```python
# torch.manual_seed(0)
# untrained = nn.Sequential(nn.Linear(len(FEATURES), 64), nn.ReLU(), nn.Linear(64, 1))
# for name, player in (("untrained", untrained), ("trained", policy)):
#     returns = [to_go(rewards) for _, _, rewards, _ in (play(player, env) for _ in range(100))]
#     steps, returns = torch.cat([torch.arange(len(one)) for one in returns]), torch.cat(returns)
#     by_step = torch.stack([returns[steps == step].mean() for step in range(int(steps.max()) + 1)])
#     print(f"{name}: variance {(returns - returns.mean()).var():.3f} around the mean, {(returns - by_step[steps]).var():.3f} around that of the step")
# ```
# ```text
# untrained: variance 0.032 around the mean, 0.032 around that of the step
# trained: variance 0.104 around the mean, 0.066 around that of the step
# ```
#
# Only later in training. Returns of an untrained policy are small at every step. A trained one earns most of its return with the last step, so what is
# left to earn depends on the step, whatever is done there: a third of the variance is gone with a baseline that knows it. A critic goes further: it
# looks at the state.
# </details>
#
# **Next:** [stable-baselines3](05_stable_baselines3.py).
