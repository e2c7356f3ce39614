# %% [markdown]
# # 8. Your API: live, recorded, replayed
#
# Tools often sit behind HTTP. This tutorial starts a small API on your own machine, turns its OpenAPI document into tools, records
# what it answers, shuts it down, and plays on from the recording.
#
# ## An API
#
# Any server with an OpenAPI document will do. This one knows three books, and takes a moment to answer.

# %%
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOOKS = {"b1": {"title": "Dune", "author": "a1"}, "b2": {"title": "Emma", "author": "a2"}, "b3": {"title": "Ulysses", "author": "a3"}}
AUTHORS = {"a1": {"name": "Frank Herbert"}, "a2": {"name": "Jane Austen"}, "a3": {"name": "James Joyce"}}


class Library(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.03)
        _, kind, key = self.path.split("/")
        found = {"books": BOOKS, "authors": AUTHORS}[kind].get(key)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(found or {"detail": f"there is no {key}"}).encode())

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Library)
threading.Thread(target=server.serve_forever, daemon=True).start()


def operation(name, summary):
    return {"get": {"operationId": name, "summary": summary, "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]}}


document = {
    "openapi": "3.1.0",
    "servers": [{"url": f"http://127.0.0.1:{server.server_port}"}],
    "paths": {"/books/{id}": operation("get_book", "A book by its id."), "/authors/{id}": operation("get_author", "An author by their id.")},
}

# %% [markdown]
# ## Tools
#
# Only hosts that are listed are ever called, and a private address such as this one has to be named a second time.

# %%
from steptool_env.tools.http import HttpClient
from steptool_env.tools.openapi import OpenApiSource

client = HttpClient(["127.0.0.1"], private=["127.0.0.1"])
source = OpenApiSource(document, client)
toolkit = source.toolkit()
print(list(toolkit), source.left_out)

# %% [markdown]
# ## Tasks
#
# A line of JSON each: what is asked, which answer is right, which calls lead there.

# %%
from pathlib import Path

from steptool_env.tasks.jsonl import Jsonl

tasks = [
    {
        "id": f"author-{key}",
        "instruction": f"Who wrote book {key}?",
        "answer": AUTHORS[book["author"]]["name"],
        "calls": [{"name": "get_book", "arguments": {"id": key}}, {"name": "get_author", "arguments": {"id": book["author"]}}],
    }
    for key, book in BOOKS.items()
]
Path("tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
live = Jsonl("tasks.jsonl", source=source.toolkit, split="all")

# %% [markdown]
# ## Record
#
# A recorder passes every call on, and writes down what came back. Let the oracle play, and somebody who guesses an id:

# %%
from steptool_agents import OraclePolicy, rollout
from steptool_env import StepToolEnv, ToolCall
from steptool_env.tasks.wrapped import WithTools
from steptool_env.tools.recording import Recorder

recorded = WithTools(live, lambda task, toolkit: Recorder(toolkit, "calls.jsonl", task.id))
env = StepToolEnv(recorded, max_steps=5)
env.reset(options={"task": "author-b1"})
obs, reward, *_, info = env.step(ToolCall("get_book", {"id": "b9"}))
print(obs["messages"][-1].content, info["tool_error"])


def timed(env):
    started = time.perf_counter()
    played = rollout(OraclePolicy(), [env], range(len(live)))
    return played, (time.perf_counter() - started) / sum(len(one.steps) for one in played)


played, live_seconds = timed(env)
assert all(one.success == 1.0 for one in played)

# %% [markdown]
# ## Replay
#
# The server goes away. The recording answers as it did, and at the speed of a file. A call that was never recorded cannot be answered, and
# says so.

# %%
server.shutdown()
server.server_close()
replayed = Jsonl("tasks.jsonl", tools="calls.jsonl", split="all")
env = StepToolEnv(replayed, max_steps=5)
again, replay_seconds = timed(env)
assert [one.rewards.tolist() for one in again] == [one.rewards.tolist() for one in played]
for key in ("b9", "b7"):
    env.reset(options={"task": "author-b1"})
    obs, *_, info = env.step(ToolCall("get_book", {"id": key}))
    print(key, "→", obs["messages"][-1].content, f"({info['tool_error']})")

# %% [markdown]
# What an agent that trains for ten thousand steps would wait for its tools:

# %%
from matplotlib import pyplot as plt

plt.figure(figsize=(5, 1.8))
seconds = {"live": 10_000 * live_seconds, "replayed": 10_000 * replay_seconds}
bars = plt.barh(list(seconds), list(seconds.values()), color=["tab:red", "tab:green"])
plt.bar_label(bars, [f"{value:,.0f} s" for value in seconds.values()], padding=3)
plt.margins(x=0.2)
plt.xlabel("seconds for 10,000 steps, one after the other")
plt.show()

# %% [markdown]
# Live tools can also be played many at a time: 64 episodes wait about as long as one. MCP servers, keys, and tools that fail on purpose:
# [Tools](../tools.md).
#
# **Next:** [train a real model](09_real_model.py).
