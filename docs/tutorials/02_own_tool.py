# %% [markdown]
# # 2. Your own tool and your own task
#
# A tool is a typed function. A suite says which tasks there are, which tools they need, and when a task is solved. That is all that an
# agent needs in order to train on it.

# %%
from steptool_env import Outcome, Task, TaskSuite, ToolCall, Toolkit, tool

STOCK = {"tea": 12, "coffee": 0, "cocoa": 3}
PRICE = {"tea": 4.0, "coffee": 6.5, "cocoa": 5.0}


@tool
def stock(product: str) -> int:
    """Return how many pieces of a product are in stock.

    Args:
        product: Its name, in lower case.
    """
    return STOCK[product]


@tool
def price(product: str) -> float:
    """Return the price of one piece.

    Args:
        product: Its name, in lower case.
    """
    return PRICE[product]


# %% [markdown]
# The schema that a model sees comes from the type hints and the docstring:

# %%
import json

print(json.dumps(stock.schema, indent=1))

# %% [markdown]
# Now the tasks. `grade` looks at the finished episode. `solution` returns the calls that lead from here to the goal. It is
# optional, but with it the oracle can play, demonstrations can be made, and every call can be paid for its contribution.

# %%
class Kiosk(TaskSuite):
    """How much does an order cost, if it can be delivered?"""

    name = "kiosk"
    question = "What do {} pieces of {} cost? Say 'sold out' if there are too few."

    def __init__(self, split="train"):
        counts = range(1, 15) if split == "train" else range(15, 25)  # training and evaluation have different tasks
        orders = [(product, count) for product in PRICE for count in counts]
        self.tasks = [
            Task(f"kiosk-{product}-{count}", self.question.format(count, product), ("stock", "price", "finish"), max_steps=4, data=(product, count))
            for product, count in orders
        ]

    def __len__(self):
        return len(self.tasks)

    def __getitem__(self, index):
        return self.tasks[index]

    def toolkit(self, task):
        return Toolkit([stock, price])  # finish comes with it

    def answer(self, task):
        product, count = task.data
        return f"{count * PRICE[product]:.2f}" if STOCK[product] >= count else "sold out"

    def grade(self, task, episode):
        last = episode[-1]
        return Outcome(float(last.terminated and last.action.arguments["answer"] == self.answer(task)))

    def solution(self, task, episode):
        product, count = task.data
        calls = [ToolCall("stock", {"product": product})]
        if STOCK[product] >= count:
            calls.append(ToolCall("price", {"product": product}))
        done = [step.action for step in episode if not step.result.error]
        return [*(call for call in calls if call not in done), ToolCall("finish", {"answer": self.answer(task)})]


# %% [markdown]
# Play a task, with a mistake on the way:

# %%
import gymnasium as gym

env = gym.make("StepTool-v0", suite=Kiosk())
obs, info = env.reset(options={"task": "kiosk-tea-3"})
print(obs["messages"][0].content)
wrong, stocked, priced = ToolCall("stock", {"item": "tea"}), ToolCall("stock", {"product": "tea"}), ToolCall("price", {"product": "tea"})
for call in (wrong, stocked, priced, ToolCall("finish", {"answer": "12.00"})):
    obs, reward, terminated, truncated, info = env.step(call)
    print(f"{reward:+.2f} {info['tool_error'] or 'ok':14} {obs['messages'][-1].content}")
print(info["reward_parts"])

# %% [markdown]
# Is the suite sound? The oracle must solve everything, and random calls nothing:

# %%
from matplotlib import pyplot as plt

from steptool_agents import OraclePolicy, RandomPolicy, evaluate

suite = Kiosk()
tasks = range(len(suite))
reports = {"oracle": evaluate(OraclePolicy(), suite, tasks)[0], "random": evaluate(RandomPolicy(seed=0), suite, tasks)[0]}
for name, report in reports.items():
    print(name, report.success)
assert reports["oracle"].success == 1.0

plt.figure(figsize=(4, 2))
plt.barh(list(reports), [report.success for report in reports.values()])
plt.xlabel("success")
plt.show()

# %% [markdown]
# In a file `kiosk.py`, the same suite trains from the command line: `steptool train --suite kiosk.py --model smollm2`.
# [Your own suite](../own_suite.md) follows that path to its end.
#
# **Next:** [a reward of your own](03_reward.py).
