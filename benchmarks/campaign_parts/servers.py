"""Hostile servers and addresses: no request leaves the list of hosts, no exchange outlives its time, no key and no nonsense gets in."""

from __future__ import annotations

import base64
import html
import json
import logging
import math
import os
import re
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign_parts.addresses import addresses
from campaign_parts.cases import Case, Outcome
from campaign_parts.hostile import BOMBS, SLOW, Request, Server, answer
from campaign_parts.nonsense import CHAT, COMPLETIONS, GRADES

__all__ = ["cases", "run"]

TIMEOUT, ATTEMPTS, LONGEST = 0.5, 2, 15.0
"""Seconds of an attempt, attempts, and the seconds in which both must be over on a machine that has other things to do."""
KEY = "sk-Ab/C+d=12%34.xyz-0987654321"
SHORT = (
    "a dripped status line/http",
    "endless 100 Continue/chat",
    "gzip in gzip/http",
    "schemes/direct",
    "user information/redirected",
    "plainly/http",
    "a cut key/http",
)


def cases(seed: int) -> list[Case]:
    """Return every server and every kind of address."""
    made: list[tuple[str, str]] = []
    made += [("addresses", f"{kind}/{way}") for kind in addresses() if kind != "path parameters" for way in ("direct", "redirected")]
    made += [("path parameters", place) for place in ("path", "query", "header")]
    made += [("slow servers", f"{name}/{client}") for name in SLOW for client in ("http", "chat")]
    made += [("answers too long or none", f"{name}/{client}") for name in BOMBS for client in ("http", "chat")]
    made += [("echoes of keys", f"{name}/{client}") for name in _echoes() for client in ("http", "chat")]
    made += [("chat answers", name) for name in CHAT] + [("sampled tokens", name) for name in COMPLETIONS] + [("judges", name) for name in GRADES]
    return [Case("servers", kind, name, seed + number, limit=120, short=name in SHORT) for number, (kind, name) in enumerate(made)]


def run(case: Case, work: Path) -> Outcome:
    """Ask the server, or send the addresses."""
    logging.disable(logging.NOTSET)
    first, _, second = case.name.rpartition("/")
    match case.kind:
        case "addresses":
            return _addresses(addresses()[first], redirected=second == "redirected")
        case "path parameters":
            return _parameters(case.name)
        case "slow servers":
            return _asked(SLOW[first], second, gives_up=True)
        case "answers too long or none":
            return _asked(BOMBS[first](), second, gives_up=False)
        case "echoes of keys":
            return _echo(_echoes()[first], second, work)
        case "chat answers":
            return _chat(CHAT[case.name]())
        case "sampled tokens":
            return _sampled(COMPLETIONS[case.name]())
        case _:
            return _judge(GRADES[case.name]())


# ---------------------------------------------------------------- addresses
def _addresses(those: list[str], *, redirected: bool) -> Outcome:
    from steptool_env.errors import Unavailable
    from steptool_env.tools.http import HttpClient, NotAllowed

    def talk(request: Request) -> Any:
        if redirected and request.line.startswith("GET /from "):
            return answer(b"", "302 Found", Location=meant.replace("\n", " ").replace("\r", " "))
        return answer(b"here")

    here, other = Server(talk), Server(lambda request: answer(b"elsewhere"))
    reached, endings, raised, meant = set[str](), Counter[str](), list[str](), ""

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            reached.add(f"{values[1][0]}:{values[1][1]}" if isinstance(values[1], tuple) else str(values[1]))
        elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
            reached.add(str(values[0] if event != "socket.sendto" else values[1]))

    sys.addaudithook(watch)
    client = HttpClient([here.host], timeout=5.0, attempts=1)
    for address in those:
        meant = address.replace("HERE", here.host).replace("OTHER", other.host).replace("PORT", str(other.port))
        started = time.monotonic()
        try:
            endings[f"answered: {client.send('GET', f'http://{here.host}/from' if redirected else meant).text}"] += 1
        except NotAllowed:
            endings["not allowed"] += 1
        except Unavailable:
            endings["unavailable"] += 1
        except Exception as fault:
            raised.append(f"{meant!r}: {type(fault).__name__}: {fault}"[:150])
        if time.monotonic() - started > LONGEST:
            return Outcome(False, "over time", repr(meant))
    strangers = {one for one in reached if one not in (here.host, "127.0.0.1")}
    if strangers or other.connections:
        return Outcome(False, "reached", f"{sorted(strangers)}, {other.connections} connections to a server that is not listed")
    if raised:
        return Outcome(False, "raised", f"{len(raised)} of them: {'; '.join(raised[:8])}", {"addresses": len(those), **endings})
    return Outcome(True, "no unlisted host", "", {"addresses": len(those), **endings})


def _parameters(place: str) -> Outcome:
    """What a model writes into a parameter changes neither the template of the path nor the other parameters."""
    from steptool_env.tools.http import HttpClient
    from steptool_env.tools.openapi import OpenApiSource
    from steptool_env.types import ToolCall

    server = Server(lambda request: answer(b"{}"))
    names = ("first", "second")
    path = "/items/{first}/of/{second}/end" if place == "path" else "/items"
    about = [{"name": name, "in": place, "required": True, "schema": {"type": "string"}} for name in names]
    document = {"openapi": "3.0.3", "paths": {path: {"get": {"operationId": "get", "parameters": about}}}}
    source = OpenApiSource(document, HttpClient([server.host], timeout=5.0, attempts=1), server=f"http://{server.host}")
    toolkit, endings, values = source.toolkit(), Counter[str](), addresses()["path parameters"]
    for value in (*values, "{second}", "{first}"):
        for arguments in ({"first": value, "second": "plain"}, {"first": "plain", "second": value}, {"first": value, "second": value}):
            server.requests.clear()
            result = toolkit.execute(ToolCall("get", arguments))
            endings[result.error or "sent"] += 1
            if len(server.requests) > 1:
                return Outcome(False, "several requests", f"{arguments!r}: {server.requests!r}"[:500])
            if server.requests and not _kept(server.requests[0], place):
                return Outcome(False, "another request", f"{arguments!r} sent {server.requests[0].line!r}"[:500])
    return Outcome(True, "template kept", "", {"values": 3 * (len(values) + 2), **endings})


def _kept(request: Request, place: str) -> bool:
    method, target, version = ([*request.line.split(" "), "", "", ""])[:3]
    path, _, query = target.partition("?")
    if method != "GET" or version != "HTTP/1.1" or request.header("X-Evil") or request.body:
        return False
    if place == "path":
        parts = path.split("/")
        inside = len(parts) == 6 and [parts[1], parts[3], parts[5]] == ["items", "of", "end"] and not query and "#" not in target
        return inside and all(part and urllib.parse.unquote(part) not in (".", "..") for part in (parts[2], parts[4]))
    names = [name for name, _ in urllib.parse.parse_qsl(query, keep_blank_values=True)]
    return path == "/items" and names == (["first", "second"] if place == "query" else [])


# ---------------------------------------------------------------- exchanges
def _asked(talk: Callable[[Request], Any], kind: str, *, gives_up: bool) -> Outcome:
    """Ask such a server once; the outcome is a failure or a bounded answer, in time and in memory."""
    _reset_peak()
    server, before, started = Server(talk), _peak(), time.monotonic()
    ending, said = _ask(server.host, kind)
    seconds, memory = time.monotonic() - started, _peak() - before
    if ending == "raised":
        return Outcome(False, "raised", said)
    if seconds > LONGEST:
        return Outcome(False, "over time", f"{seconds:.1f} s where {ATTEMPTS} attempts of {TIMEOUT} s were agreed")
    if memory > 64:
        return Outcome(False, "over memory", f"{memory} MB")
    if gives_up and ending == "answered":
        return Outcome(False, "answered", f"an answer out of nothing: {said[:200]!r}")
    return Outcome(True, ending)


def _ask(host: str, kind: str, cache: Path | None = None) -> tuple[str, str]:
    """Return how it ended and everything that it said."""
    from steptool_agents.servers.client import ChatClient, Failure
    from steptool_env.errors import Unavailable
    from steptool_env.tools.http import HttpClient, NotAllowed

    os.environ |= {"CAMPAIGN_KEY": KEY}
    options: dict[str, Any] = {"timeout": TIMEOUT, "attempts": ATTEMPTS, "backoff": 0.01, "longest_wait": 0.1}
    try:
        if kind == "http":
            text = HttpClient([host], headers={"X-Key": "CAMPAIGN_KEY"}, max_bytes=1000, **options).send("GET", f"http://{host}/a").text
            return "answered", text
        client = ChatClient(f"http://{host}/v1", key_env="CAMPAIGN_KEY", cache=cache, **options)
        found = client.ask_all([({"model": "m", "messages": []}, 0)], lambda index, message: json.dumps(message))[0]
        if isinstance(found, Failure):
            return f"given up: {found.kind}", str(found)
        return "answered", found
    except Unavailable as fault:
        return "unavailable", str(fault)
    except NotAllowed as fault:
        return "not allowed", str(fault)
    except Exception as fault:
        return "raised", f"{type(fault).__name__}: {fault}"


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Return the most memory that the process has held, in MB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024  # type: ignore[index]


# ---------------------------------------------------------------- keys
def _echoes() -> dict[str, Callable[[str], list[tuple[str, bytes, dict[str, str]]]]]:
    """Return name -> what a server sends back that has got this key: status, body, headers."""
    u = "".join(f"\\u{ord(char):04x}" for char in KEY)
    return {
        "plainly": lambda key: [("200 OK", key.encode(), {})],
        "in an error": lambda key: [("401 No", f"wrong key: {key}".encode(), {})],
        "in a passing error": lambda key: [("500 Down", f"wrong key: {key}".encode(), {})],
        "in the status line": lambda key: [(f"500 {key}", b"", {})],
        "in a redirect": lambda key: [("302 Found", b"", {"Location": f"http://evil.invalid/?key={urllib.parse.quote(key)}"})],
        "in a plain redirect": lambda key: [("302 Found", b"", {"Location": f"http://{key.split('%')[0]}.invalid/{key}"})],
        "with escaped slashes": lambda key: [("200 OK", _chat_answer(json.dumps(key).replace("/", "\\/")), {})],
        "with \\u": lambda key: [("200 OK", _chat_answer(f'"{u}"'), {})],
        "URL-encoded": lambda key: [("200 OK", urllib.parse.quote(key, safe="").encode(), {})],
        "URL-encoded in lower case": lambda key: [("200 OK", re.sub(r"%..", lambda found: found[0].lower(), urllib.parse.quote(key, safe="")).encode(), {})],
        "base64": lambda key: [("200 OK", base64.b64encode(key.encode()), {})],
        "base64 of the header": lambda key: [("200 OK", base64.b64encode(f"Bearer {key}".encode()), {})],
        "in HTML": lambda key: [("200 OK", html.escape(f"<p>{key}&</p>").encode(), {})],
        "a cut key": lambda key: [("200 OK", b"x" * 985 + key.encode() * 3, {})],
        "a cut key in a chat answer": lambda key: [("404 None", b"x" * 190 + key.encode(), {})],
        "in a chat answer": lambda key: [("200 OK", _chat_answer(json.dumps(f"your key is {key}")), {})],
        "as a name in a chat answer": lambda key: [("200 OK", _chat_answer(json.dumps({key: 1})), {})],
    }


def _chat_answer(content: str) -> bytes:
    return f'{{"choices": [{{"message": {{"role": "assistant", "content": {content}}}}}]}}'.encode()


def _echo(make: Callable[[str], list[tuple[str, bytes, dict[str, str]]]], kind: str, work: Path) -> Outcome:
    """The key is in nothing that came back, was logged, or was written."""

    def talk(request: Request) -> Any:
        key = request.header("X-Key") or request.header("Authorization").removeprefix("Bearer ")
        status, body, headers = make(key)[0]
        return answer(body, status, **headers)

    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    # All of ours; of others, what they say unasked: their logs for debugging show whatever goes over the wire.
    for package in ("steptool_env", "steptool_agents"):
        logging.getLogger(package).setLevel(logging.DEBUG)
    ending, said = _ask(Server(talk).host, kind, cache=work / "cache")
    if ending == "raised":
        return Outcome(False, "raised", said)
    written = [path.read_text(encoding="utf-8", errors="replace") for path in work.rglob("*") if path.is_file()]
    for place, texts in {"what it returned": [said], "the log": logged, "files": written}.items():
        if shown := next((text for text in texts if _shows(text)), None):
            return Outcome(False, "leaked", f"the key is in {place}: {shown[-200:]!r}")
    return Outcome(True, "no key", "", {ending: 1})


def _shows(text: str) -> bool:
    """Return whether a text holds the key, plainly or in one of the usual codes, or more than its first eight characters at its end."""
    forms = [text, urllib.parse.unquote(text), html.unescape(text), text.replace("\\/", "/")]
    forms.append(re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text))
    for word in re.findall(r"[A-Za-z0-9+/=_-]{16,}", text):
        try:
            forms.append(base64.b64decode(word + "=" * (-len(word) % 4)).decode("latin-1"))
        except ValueError:
            continue
    return any(KEY in form for form in forms) or any(text.endswith(KEY[:count]) for count in range(8, len(KEY)))


# ---------------------------------------------------------------- nonsense
def _chat(body: bytes) -> Outcome:
    """Play against a chat server that answers so: observations, or masked and counted; its answers are read again as a transcript."""
    from steptool_agents.policies.chat_completions import ChatCompletionsPolicy
    from steptool_agents.servers.client import ChatClient
    from steptool_env import FORMATS, StepToolEnv, make_suite

    server, counts = Server(lambda request: answer(body)), Counter[str]()
    started = time.monotonic()
    for form in (None, *FORMATS):
        client = ChatClient(f"http://{server.host}/v1", key_env="CAMPAIGN_NONE", timeout=5.0, attempts=1)
        policy, env = ChatCompletionsPolicy(client, "m", call_format=form, logprobs=True), StepToolEnv(make_suite("jsonl", split="all"), "final", max_steps=3)
        observation, _ = env.reset(options={"task": 0})
        while True:
            generation = policy.act([observation], [env])[0]
            if not all(isinstance(value, float) and math.isfinite(value) and value <= 0 for value in generation.logprobs):
                return Outcome(False, "let in", f"log-probabilities {generation.logprobs[:5]!r}")
            observation, _, terminated, truncated, info = env.step(generation.action)
            counts[info["tool_error"] or "ok"] += 1
            if terminated or truncated:
                break
    if time.monotonic() - started > 7 * LONGEST:
        return Outcome(False, "over time", f"{time.monotonic() - started:.1f} s")
    return Outcome(True, "observed or masked", "", dict(counts))


def _sampled(body: bytes) -> Outcome:
    """Play with a model server that answers so: masked, counted, and nothing to learn from."""
    from steptool_agents.models.loading import load_model
    from steptool_agents.policies.served import ServedPolicy
    from steptool_agents.rollouts.collect import rollout
    from steptool_agents.servers.client import ChatClient
    from steptool_agents.servers.weights import HandOver
    from steptool_env import StepToolEnv, make_suite

    server = Server(lambda request: answer(body if "/completions" in request.line else b"{}"))
    client = ChatClient(f"http://{server.host}/v1", key_env="CAMPAIGN_NONE", timeout=10.0, attempts=2, backoff=0.0)
    with _folder() as folder:
        policy = ServedPolicy(load_model("tiny"), HandOver([client], folder, "m"), max_new_tokens=6)
        suite = make_suite("jsonl", split="all")
        episodes = rollout(policy, [StepToolEnv(suite, "final", max_steps=3) for _ in range(2)], [0, 1])
    learned = [step for episode in episodes for step in episode.steps if not step.masked]
    if learned or policy.unanswered != 2:
        return Outcome(False, "let in", f"{len(learned)} steps to learn from, {policy.unanswered} of 2 episodes counted as unanswered")
    return Outcome(True, "masked and counted")


def _folder() -> Any:
    import tempfile

    return tempfile.TemporaryDirectory()


def _judge(body: bytes) -> Outcome:
    """Let such a judge grade an episode: its rewards are missing, or numbers within the scale."""
    from steptool_agents.servers.judge import PaperJudge
    from steptool_env import StepToolEnv, make_suite

    server = Server(lambda request: answer(body))
    judge = PaperJudge(f"http://{server.host}/v1", "m", judgments=1, attempts=2, backoff=0.0, timeout=5.0, key_env="CAMPAIGN_NONE")
    env = StepToolEnv(make_suite("jsonl", split="all"), "final")
    env.reset(options={"task": 0})
    while not env.step(env.solution()[0])[2]:
        pass
    assert env.episode is not None
    labels = judge.hindsight([env.episode.transitions])[0]
    if all(label is None for label in labels):
        return Outcome(judge.missing == 1, "missing and counted")
    if all(label is not None and all(math.isfinite(value) and 0 <= value <= 1 for value in label.values()) for label in labels):
        return Outcome(True, "within the scale")
    return Outcome(False, "let in", f"{labels!r}"[:300])
