# %% [markdown]
# # 7. What a wrong credit costs
#
# An episode has earned its rewards. How much of them goes to which step? That is *credit assignment*: a few lines in every trainer, where a mistake
# raises no error. The loss is finite, the curve moves, and the policy is worse than it could be. Here are five schemes; one is right.
#
# ## Five credits
#
# A credit scheme is a function of a batch of episodes, γ and λ. It returns one number for every step, or one for every token of every step.

# %%
import numpy as np

from steptool_agents.credit import CREDIT, Episodes


def own_only(episodes, gamma, lam):
    """A step gets its own reward, and nothing of what it led to."""
    return episodes.rewards


def one_late(episodes, gamma, lam):
    """The reward of a step is booked on the next one; that of the last step is lost."""
    late = np.zeros_like(episodes.rewards)
    late[:, 1:] = np.where(episodes.live[:, 1:], episodes.rewards[:, :-1], 0.0)
    return CREDIT["step"](Episodes.of(list(late)), gamma, lam)


SCHEMES = {
    "step": CREDIT["step"],  # right: a step gets everything that was earned from it on
    "whole episode": CREDIT["trajectory"],  # every step gets all, also what was earned before it
    "own reward only": own_only,
    "one step late": one_late,
    "released code": CREDIT["reference"],  # that of the paper's authors
}

# %% [markdown]
# What does each of them make of an episode of four calls? The first three each contribute a third, the last one gives the right answer, so the rewards
# are 1/6, 1/6, 1/6 and 1. The released code counts time in tokens, those of the tools' results included; here a call has 20 of them and a result 100.

# %%
TOKENS, RESULT = 20, 100


def credit(scheme, rewards):
    """(B, T) what each step gets; of the tokens of a step, the mean."""
    sizes = [[TOKENS] * len(one) for one in rewards]
    gaps = [[RESULT] * len(one) for one in rewards]
    rates = (0.99, 0.95) if scheme == "released code" else (1.0, 1.0)
    found = SCHEMES[scheme](Episodes.of(rewards, tokens=sizes, gaps=gaps), *rates)
    return found.mean(-1) if found.ndim == 3 else found


for scheme in SCHEMES:
    print(f"{scheme:16}", credit(scheme, [[1 / 6, 1 / 6, 1 / 6, 1.0]]).round(2)[0])

# %% [markdown]
# The released code of the StepTool paper pays the reward of a step once for every step that follows it. The last reward, which is the verdict, is paid
# zero times. [Credit](../credit.md) has its other defects.
#
# ## A learner that does not have to read
#
# The same as in [tutorial 6](06_final_rewards.py): a table with one row per step of the episode and one column per move. Move 0 is the right call,
# move 1 gives up, the others waste a call. The five learners differ in one line, which is marked.

# %%
from steptool_env import StepToolEnv, ToolCall

GIVE_UP = ToolCall("finish", {"answer": "", "give_up": True})
MOVES, DEPTH, TEST = 5, 3, 20


def call(env, move):
    """What a move stands for in this state."""
    if move == 0:
        return env.solution()[0]
    return GIVE_UP if move == 1 else ToolCall(env.task.tools[move - 2], {})  # a call without its arguments changes nothing


def softmax(preferences):
    chances = np.exp(preferences - preferences.max(1, keepdims=True))
    return chances / chances.sum(1, keepdims=True)


def play(env, task, chances, rng):
    """One episode: moves (T,), rewards (T,), and whether the task was solved."""
    env.reset(options={"task": task})
    moves, rewards, over = [], [], False
    while not over:
        moves.append(int(rng.choice(MOVES, p=chances[len(moves)])))
        _, reward, terminated, truncated, info = env.step(call(env, moves[-1]))
        rewards.append(reward)
        over = terminated or truncated
    return np.array(moves), np.array(rewards), info["success"]


def make_env(shaper, split="train", depth=DEPTH):
    return StepToolEnv("worlds", shaper, level=2, depth=(depth, depth), families="lookup", split=split, max_steps=depth + 3)


def train(scheme, shaper, seed, updates=40, batch=16, rate=0.3, depth=DEPTH):
    """Return success in every update, and the verdicts on held-out tasks after the last one."""
    rng, env = np.random.default_rng(seed), make_env(shaper, depth=depth)
    table, baseline, curve = np.zeros((env.max_steps, MOVES)), np.zeros(env.max_steps), []
    for _ in range(updates):
        chances = softmax(table)
        episodes = [play(env, int(rng.integers(1000)), chances, rng) for _ in range(batch)]
        credits = credit(scheme, [rewards for _, rewards, _ in episodes])  # this line
        for (moves, *_), given in zip(episodes, credits, strict=True):
            steps = np.arange(len(moves))
            advantage = given[: len(moves)] - baseline[steps]
            table[steps] -= rate * advantage[:, None] * chances[steps]
            table[steps, moves] += rate * advantage
            baseline[steps] += 0.1 * advantage
        curve.append(np.mean([solved for *_, solved in episodes]))
    held_out, chances = make_env(shaper, "test", depth), softmax(table)
    return curve, [play(held_out, task, chances, rng)[2] for task in range(TEST)]


# %% [markdown]
# ## The experiment
#
# Five schemes, six seeds, 640 episodes for each run, and two rewards: `steptool` pays every step for what it contributed, `final` pays for the verdict
# alone.

# %%
SEEDS, SHAPERS = range(6), ("steptool", "final")
results = {(scheme, shaper): [train(scheme, shaper, seed) for seed in SEEDS] for shaper in SHAPERS for scheme in SCHEMES}

# %%
from matplotlib import pyplot as plt

from steptool_agents import bootstrap, paired

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
for number, (shaper, color) in enumerate(zip(SHAPERS, ("tab:orange", "tab:blue"), strict=True)):
    after = [bootstrap([verdicts for _, verdicts in results[scheme, shaper]]) for scheme in SCHEMES]
    errors = [[one.mean - one.low for one in after], [one.high - one.mean for one in after]]
    places = np.arange(len(SCHEMES)) + 0.15 * (2 * number - 1)
    axes[0].errorbar(places, [one.mean for one in after], yerr=errors, fmt="o", capsize=4, color=color, label=shaper)
for scheme in SCHEMES:
    curves = np.array([curve for curve, _ in results[scheme, "steptool"]])  # (seeds, updates)
    bands = [bootstrap(curves[:, [update]]) for update in range(curves.shape[1])]
    axes[1].plot([band.mean for band in bands], label=scheme)
    axes[1].fill_between(range(len(bands)), [band.low for band in bands], [band.high for band in bands], alpha=0.15)
axes[0].set_xticks(range(len(SCHEMES)), [scheme.replace(" ", "\n", 1) for scheme in SCHEMES])
axes[0].set(ylabel="success on held-out tasks", ylim=(-0.03, 1.05))
axes[1].set(xlabel="update, with steptool", ylabel="success in training")
for axis in axes:
    axis.legend(fontsize=8)
plt.show()

for scheme in list(SCHEMES)[1:]:
    costs = []
    for shaper in SHAPERS:
        right, wrong = ([verdicts for _, verdicts in results[name, shaper]] for name in ("step", scheme))
        costs.append(paired(wrong, right))
    shown = [f"{shaper} {100 * cost.mean:+.0f} ({100 * cost.low:+.0f} to {100 * cost.high:+.0f})" for shaper, cost in zip(SHAPERS, costs, strict=True)]
    print(f"{scheme:16} less step, in points:", ", ".join(shown))
    dear = {"whole episode": (False, False), "own reward only": (False, True)}.get(scheme, (True, True))
    assert [cost.high < 0 for cost in costs] == list(dear)  # the text below says so

# %% [markdown]
# - **Where only the verdict pays, credit is everything.** A scheme that loses the verdict, or does not carry it back to the first step, learns nothing.
# - **Step rewards forgive.** Each call is paid when it is made, so even a scheme that looks no further than the step itself learns. What cannot be
#   forgiven is a lost verdict: the step that gives the answer has nothing to learn from.
# - **The whole episode's return costs nothing that could be seen here.** What a step gets for its predecessors is noise, and noise costs episodes only
#   where there is much of it: see exercise 1.
#
# ## Exercises
#
# 1. Somebody rewards fast servers: the first step of an episode earns 2 more or 2 less, depending on the task, whatever the policy does. Which
#    suffers, `step` or `whole episode`?
# 2. Book every reward one step too *early*. Predict first: is `steptool` still more forgiving than `final`?
#
# <details markdown="1"><summary>Solution of 1</summary>
#
# ```python
# from steptool_env import make_shaper
#
# steptool = make_shaper("steptool")
#
# def lucky(episode):
#     luck = 2.0 if sum(map(ord, episode[0].task.id)) % 2 else -2.0
#     return {**steptool(episode), "luck": luck if len(episode) == 1 else 0.0}
#
# for scheme in ("step", "whole episode"):
#     found = bootstrap([train(scheme, lucky, seed)[1] for seed in SEEDS])
#     print(f"{scheme}: {found.mean:.2f} ({found.low:.2f} to {found.high:.2f})")
# ```
# ```text
# step: 1.00 (1.00 to 1.00)
# whole episode: 0.48 (0.15 to 0.83)
# ```
#
# With `step` only the first step hears the noise, and its baseline evens it out in time. With `whole episode` every step hears it.
# </details>
#
# <details markdown="1"><summary>Solution of 2</summary>
#
# ```python
# def one_early(episodes, gamma, lam):
#     early = np.zeros_like(episodes.rewards)
#     early[:, :-1] = episodes.rewards[:, 1:]
#     return CREDIT["step"](Episodes.of(list(early)), gamma, lam)
#
# SCHEMES["one step early"] = one_early
# for shaper in SHAPERS:
#     found = bootstrap([train("one step early", shaper, seed)[1] for seed in range(12)])
#     print(f"{shaper}: {found.mean:.2f} ({found.low:.2f} to {found.high:.2f})")
# ```
# ```text
# steptool: 0.15 (0.05 to 0.25)
# final: 0.36 (0.24 to 0.49)
# ```
#
# It is not. Now a step gets what was earned after it, without its own reward. The contributions of an episode add up to the progress it ends with, so
# what a right call earns is missing from what is left to earn, and that is what the call is judged by: `steptool` pays for putting progress
# off. `final` loses only what the answer earns at the last step; all steps before it are still paid for what they lead to.
# </details>
#
# **Next:** [your API](08_your_api.py).
