# %% [markdown]
# # 6. Step rewards against final rewards, as tasks get deeper
#
# A learner that is paid for the verdict alone learns nothing before its first success, and its first success is luck. A task of `d` calls takes `d + 1`
# right decisions in a row, so the chance of a lucky success falls exponentially with `d`. A learner that is paid for every step has something to learn
# from at once.
#
# That is the claim. Here is an experiment that could refute it.
#
# ## A learner that does not have to read
#
# A language model has to learn many things at once. This learner is so small that only the reward makes a difference: a table with one row per
# step of the episode and one column per move. Move 0 is the right call, move 1 gives up, the others waste a call. It has to find out
# which is which, separately for every step. Tasks, tools and rewards are the real ones.

# %%
import numpy as np

from steptool_agents.credit import CREDIT, Episodes
from steptool_env import StepToolEnv, ToolCall

GIVE_UP = ToolCall("finish", {"answer": "", "give_up": True})
MOVES, SPARE = 5, 2  # moves to choose from; calls that may be wasted


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


def make_env(depth, shaper, split="train"):
    return StepToolEnv("worlds", shaper, level=2, depth=(depth, depth), families="lookup", split=split, max_steps=depth + 1 + SPARE)


print(make_env(3, "final").suite[0].instruction)

# %% [markdown]
# It learns by policy gradient, as in [tutorial 4](04_reinforce.py). With λ = 1 the advantage of a step is everything that was earned from that step on,
# less what is usually earned from there. This choice favors the final reward: a smaller λ would pass on less of it.

# %%
TEST = 20  # held-out tasks


def train(depth, shaper, seed, updates=30, batch=16, rate=0.3, head_start=0.0):
    """Return success in every update, and the verdicts on held-out tasks after the last one."""
    rng, env = np.random.default_rng(seed), make_env(depth, shaper)
    table, baseline, curve = np.zeros((env.max_steps, MOVES)), np.zeros(env.max_steps), []
    table[:, 0] = head_start
    for _ in range(updates):
        chances = softmax(table)
        episodes = [play(env, int(rng.integers(1000)), chances, rng) for _ in range(batch)]
        values = [baseline[: len(moves)] for moves, *_ in episodes]
        advantages = CREDIT["step"](Episodes.of([rewards for _, rewards, _ in episodes], values=values), 1.0, 1.0)
        for (moves, *_), advantage in zip(episodes, advantages, strict=True):
            steps, own = np.arange(len(moves)), advantage[: len(moves)]
            table[steps] -= rate * own[:, None] * chances[steps]
            table[steps, moves] += rate * own
            baseline[steps] += 0.1 * own
        curve.append(np.mean([solved for *_, solved in episodes]))
    held_out, chances = make_env(depth, shaper, "test"), softmax(table)
    return curve, [play(held_out, task, chances, rng)[2] for task in range(TEST)]


# %% [markdown]
# ## The experiment
#
# Two rewards, six depths, six seeds, 480 episodes for each run. `steptool` pays for what a call contributed and for the verdict, `final` for the
# verdict alone.

# %%
DEPTHS, SEEDS, SHAPERS = range(1, 7), range(6), ("steptool", "final")
results = {(shaper, depth): [train(depth, shaper, seed) for seed in SEEDS] for shaper in SHAPERS for depth in DEPTHS}

# %% [markdown]
# How sure can we be? `bootstrap` returns the mean over seeds and tasks with its 95 % interval. It resamples the seeds as well as the tasks: a lucky
# seed must not pass for a property of the reward. `paired` does the same for the difference of the two, task by task and seed by seed.

# %%
from matplotlib import pyplot as plt

from steptool_agents import bootstrap, paired


def points(axis, xs, intervals, **style):
    """Means, with their intervals as bars."""
    errors = [[one.mean - one.low for one in intervals], [one.high - one.mean for one in intervals]]
    axis.errorbar(xs, [one.mean for one in intervals], yerr=errors, marker="o", capsize=4, **style)


SHOWN = 4  # the depth whose learning is shown
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
for shaper, color in zip(SHAPERS, ("tab:orange", "tab:blue"), strict=True):
    after = [bootstrap([verdicts for _, verdicts in results[shaper, depth]]) for depth in DEPTHS]
    points(axes[0], list(DEPTHS), after, label=shaper, color=color)
    curves = np.array([curve for curve, _ in results[shaper, SHOWN]])  # (seeds, updates)
    bands = [bootstrap(curves[:, [update]]) for update in range(curves.shape[1])]
    axes[1].plot([band.mean for band in bands], color=color)
    axes[1].fill_between(range(len(bands)), [band.low for band in bands], [band.high for band in bands], color=color, alpha=0.2)
axes[0].set(xlabel="calls that a task takes", ylabel="success on held-out tasks", ylim=(-0.03, 1.05))
axes[1].set(xlabel=f"update, tasks of {SHOWN} calls", ylabel="success in training")
axes[0].legend()
plt.show()

for depth in DEPTHS:
    gain = paired(*([verdicts for _, verdicts in results[shaper, depth]] for shaper in SHAPERS))
    print(f"{depth} calls: steptool less final {100 * gain.mean:+.0f} points ({100 * gain.low:+.0f} to {100 * gain.high:+.0f})")
    assert depth not in (4, 5) or gain.low > 0  # the text below says so

# %% [markdown]
# Up to three calls the reward makes no difference: luck finds the first success soon enough. At four calls the final reward needs most of its episodes
# to find it, at five it never does. Step rewards learn both. At six calls they run out of episodes as well: they make tasks cheaper to learn, not free.
#
# ## Exercises
#
# 1. Does the final reward ever learn tasks of five calls? Give it two, four and eight times the episodes.
# 2. Language models are not trained from nothing: demonstrations come first. Train both rewards on tasks of six calls with `head_start=1`, which
#    raises the chance of the right move from 20 to 40 % at every step. What is left of the difference, and what follows for experiments with models?
#
# <details markdown="1"><summary>Solution of 1</summary>
#
# ```python
# for updates in (60, 120, 240):
#     found = bootstrap([train(5, "final", seed, updates)[1] for seed in range(3)])
#     print(f"{16 * updates} episodes: {found.mean:.2f} ({found.low:.2f} to {found.high:.2f})")
# ```
# ```text
# 960 episodes: 0.00 (0.00 to 0.00)
# 1920 episodes: 0.67 (0.00 to 1.00)
# 3840 episodes: 1.00 (1.00 to 1.00)
# ```
#
# It does: with four times the episodes in some of the runs, with eight times in all of them. Once the first successes are found, learning is quick.
# What grows with depth is the wait for them.
# </details>
#
# <details markdown="1"><summary>Solution of 2</summary>
#
# ```python
# for shaper in SHAPERS:
#     found = bootstrap([train(6, shaper, seed, head_start=1.0)[1] for seed in SEEDS])
#     print(f"{shaper}: {found.mean:.2f} ({found.low:.2f} to {found.high:.2f})")
# ```
# ```text
# steptool: 0.97 (0.93 to 1.00)
# final: 0.94 (0.87 to 1.00)
# ```
#
# Nothing that could be seen. Twice the chance at every step is about a hundred times the chance of seven right steps, and luck finds the first success
# soon enough. So an experiment with a model shows a difference only on tasks that its warm start hardly ever solves. If a comparison of rewards
# finds none, look first at the success before training.
# </details>
#
# **Next:** [what a wrong credit costs](07_wrong_credit.py).
