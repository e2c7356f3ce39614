# %% [markdown]
# # 3. Write a reward, have it audited, mend it, train
#
# A shaper is any callable from the steps so far to the named parts of the last step's reward. This one looks reasonable: calls should
# work, and the task should be solved.

# %%
import numpy as np
from matplotlib import pyplot as plt

from steptool_env import audit


def eager(episode):
    """Half a point for every call that works, and the verdict."""
    last = episode[-1]
    return {"works": 0.0 if last.result.error else 0.5, "solved": last.outcome.solved if last.outcome else 0.0}


# %% [markdown]
# ## Audit
#
# Before anything is trained, scripted policies play under the reward: the oracle, oracles that sometimes err, and cheap tricks. The audit
# fails if a trick earns more than the oracle.

# %%
found = audit("worlds", eager, level=2, max_steps=12, episodes=20)
for fault in found.faults:
    print(fault)
assert not found.passed

# %% [markdown]
# A policy that repeats one call that works earns more than a policy that solves the task. A bonus for the call itself can be collected
# for ever. A *difference* cannot: what a detour gains on the way out, it loses on the way back.

# %%
def gain(episode):
    """What the call changed in the progress, and the verdict."""
    last = episode[-1]
    return {"gain": last.progress - last.progress_before, "solved": last.outcome.solved if last.outcome else 0.0}


mended = audit("worlds", gain, level=2, max_steps=12, episodes=20)
assert mended.passed

figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for axis, name, result in zip(axes, ("eager", "gain"), (found, mended), strict=True):
    best, rows = result["oracle"].reward, sorted(result.rows, key=lambda row: row.policy)
    colors = ["tab:green" if row.policy == "oracle" else "tab:red" if row.reward > best else "tab:gray" for row in rows]
    axis.barh([row.policy for row in rows], [row.reward for row in rows], color=colors)
    axis.set_title(f"{name}: {'passed' if result.passed else 'failed'}")
    axis.set_xlabel("return of an episode")
plt.show()

# %% [markdown]
# ## Train
#
# Does the audit predict what a learner does? Here is a small one. At each step it chooses between the next call of the solution, the same
# call again, and giving up, with one softmax per step, and follows the policy gradient with step-level advantages.

# %%
from steptool_agents import Generation, rollout
from steptool_agents.credit import step_gae
from steptool_env import StepToolEnv, ToolCall
from steptool_env.scripted import HACKS, oracle

MOVES = [oracle, HACKS["repeater"], lambda env, rng: ToolCall("finish", {"answer": "", "give_up": True})]


class Softmax:
    """A table of preferences: a row per step of the episode, a column per move."""

    def __init__(self, seed):
        self.rng, self.table, self.values = np.random.default_rng(seed), np.zeros((12, len(MOVES))), np.zeros(12)

    def chances(self, step):
        chance = np.exp(self.table[step] - self.table[step].max())
        return chance / chance.sum()

    def act(self, observations, envs):
        moves = [int(self.rng.choice(len(MOVES), p=self.chances(len(env.episode)))) for env in envs]
        return [Generation(str(move), MOVES[move](env, self.rng)) for move, env in zip(moves, envs, strict=True)]


def train(shaper, seed=0, updates=60):
    """Return success and calls per episode after each update."""
    policy, curve = Softmax(seed), []
    envs = [StepToolEnv("worlds", shaper, level=2, max_steps=12) for _ in range(16)]
    for _ in range(updates):
        played = rollout(policy, envs, policy.rng.integers(1000, size=16).tolist())
        for one in played:
            values = policy.values[: len(one.steps)].copy()
            advantages = step_gae(one.rewards, values, bootstrap_value=0.0, gamma=1.0, lam=1.0)
            policy.values[: len(values)] += 0.1 * advantages
            for t, step in enumerate(one.steps):
                policy.table[t] -= 0.2 * advantages[t] * policy.chances(t)
                policy.table[t, int(step.generation.text)] += 0.2 * advantages[t]
        curve.append((np.mean([one.success for one in played]), np.mean([len(one.steps) for one in played])))
    return np.array(curve)


figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for shaper in (eager, gain):
    curves = np.stack([train(shaper, seed) for seed in range(3)])  # (seed, update, 2)
    for axis, values, title in zip(axes, np.moveaxis(curves, -1, 0), ("success", "calls per episode"), strict=True):
        axis.plot(values.mean(0), label=shaper.__name__)
        axis.fill_between(range(values.shape[1]), values.min(0), values.max(0), alpha=0.2)
        axis.set(title=title, xlabel="update")
axes[0].legend()
plt.show()

# %% [markdown]
# The bands span three seeds. As the audit had said, the bonus teaches the policy to repeat a call until its budget is used up. The
# difference teaches it to solve the task in as few calls as it takes.
#
# ## Exercises
#
# 1. Somebody suggests to keep the bonus, but only for the *first* time that a call is made. Does it pass the audit, with 12 steps and with 30?
# 2. A price of 1 for every failed call, and the verdict: nothing can be farmed. What is wrong with it all the same?
#
# <details markdown="1"><summary>Solution of 1</summary>
#
# ```python
# def first_time(episode):
#     last = episode[-1]
#     new = all(step.action != last.action for step in episode[:-1])
#     return {"works": 0.5 if new and not last.result.error else 0.0, "solved": last.outcome.solved if last.outcome else 0.0}
#
# for steps in (12, 30):
#     found = audit("worlds", first_time, level=2, max_steps=steps, episodes=20)
#     print(f"{steps} steps: passed {found.passed}, spammer {found['spammer'].reward:.2f}, oracle {found['oracle'].reward:.2f}")
# ```
# ```text
# 12 steps: passed False, spammer 2.73, oracle 2.88
# 30 steps: passed False, spammer 6.15, oracle 2.88
# ```
#
# With 12 steps one trick still finds a way: greedy tries which call pays, and finds new ones. With 30, the spammer, which does not even look at the
# reward, earns twice what the oracle earns. An audit says what can be gained within the budget that it was given, so audit with the budget that you
# train with.
# </details>
#
# <details markdown="1"><summary>Solution of 2</summary>
#
# ```python
# def priced(episode):
#     last = episode[-1]
#     return {"price": -1.0 if last.result.error else 0.0, "solved": last.outcome.solved if last.outcome else 0.0}
#
# print(audit("worlds", priced, level=2, max_steps=12, episodes=20))
# ```
# ```text
# priced on worlds: passed
# policy             return  success  steps    price  solved
# oracle             +1.000     1.00    3.8   +0.000  +1.000
# staller            +1.000     1.00   12.0   +0.000  +1.000
# noisy oracle 10%   +0.500     0.95    4.0   -0.450  +0.950
# repeater           +0.000     0.00   12.0   +0.000  +0.000
# spammer            +0.000     0.00   12.0   +0.000  +0.000
# early finisher     +0.000     0.00    1.0   +0.000  +0.000
# no finisher        +0.000     0.00   12.0   +0.000  +0.000
# noisy oracle 25%   -0.050     0.85    4.4   -0.900  +0.850
# greedy             -0.050     0.00   12.0   -0.050  +0.000
# noisy oracle 50%   -1.700     0.70    5.8   -2.400  +0.700
# random             -2.850     0.00    3.9   -2.850  +0.000
# noisy oracle 75%   -3.450     0.15    5.7   -3.600  +0.150
# echo               -4.650     0.00    6.0   -4.650  +0.000
# format only       -11.000     0.00   12.0  -11.000  +0.000
# ```
#
# It passes: no trick earns more than the oracle. But look at the noisy oracle that errs in a quarter of its steps: it solves most tasks, and earns
# less than the early finisher, who solves none. A learner that is not perfect yet is paid for giving up.
# </details>
#
# **Next:** [REINFORCE in sixty lines](04_reinforce.py).
