"""Suite ``toolbench`` and the ``/virtual`` protocol: own queries, a server of the tests' own, and the 765 released queries where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from project import STABLETOOLBENCH
from servers import Reply, Request, serving

from steptool_env import StepToolEnv, ToolCall, make_suite
from steptool_env.errors import DataError, InvalidArgument, MissingExtra, Unavailable, UnknownName
from steptool_env.tasks.toolbench import Toolbench, recall
from steptool_env.testing import check_suite
from steptool_env.tools.http import HttpClient
from steptool_env.tools.virtual import Api, CacheFolder, VirtualServer, standardize, verdict

VIMEO = Api("Media", "Vimeo", "GetRelatedChannels")
FINISH = ToolCall("finish", {"answer": "Here you are."})


def query() -> dict[str, Any]:
    def api(name: str, *required: tuple[str, str, Any], **more: Any) -> dict[str, Any]:
        parameters = [{"name": key, "type": kind, "description": "", "default": default} for key, kind, default in required]
        return {"category_name": "Media", "tool_name": "Vimeo", "api_name": name, "api_description": name, "required_parameters": parameters} | more

    return {
        "query": "Which channels are there?",
        "query_id": 7,
        "api_list": [
            api("GetRelatedChannels", ("category", "STRING", "nature"), ("format", "STRING", "json")),
            api("Search Videos", ("query", "STRING", ""), ("most", "NUMBER", "10"), optional_parameters=[{"name": "hd", "type": "BOOLEAN"}]),
            api("Odd", ("a", "ENUM", 3), ("a", "ENUM", ""), template_response={"x": "str"}),
            api("Odd"),
        ],
        "relevant APIs": [["Vimeo", "GetRelatedChannels"], ["Vimeo", "Search Videos"]],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "G1_tool.json").write_text(json.dumps([query()]), encoding="utf-8")
    return tmp_path


def play(suite: Toolbench, *calls: ToolCall) -> tuple[StepToolEnv, dict[str, Any]]:
    env = StepToolEnv(suite, "final")
    env.reset(options={"task": 0})
    for call in calls:
        *_, info = env.step(call)
    return env, info


def test_the_verdict_is_the_recall(folder: Path) -> None:
    suite = Toolbench(str(folder), split="all")
    check_suite(suite)
    names = suite[0].tools
    assert names == ("getrelatedchannels_for_vimeo", "search_videos_for_vimeo", "odd_for_vimeo", "finish")
    channels, search = ToolCall(names[0], {"category": "x", "format": "y"}), ToolCall(names[1], {"query": "sun", "most": 3})
    odd = ToolCall(names[2], {"a": "x"})
    for calls, success in [
        ((channels, search, FINISH), 1.0),
        ((search, odd, FINISH), 0.5),  # needless calls cost nothing
        ((channels, channels, FINISH), 0.5),
        ((ToolCall(names[0], {"category": "x"}), search, FINISH), 0.5),  # wrong arguments are no call
        ((channels, search, ToolCall("finish", {"answer": " "})), 0.0),
        ((channels, search, ToolCall("finish", {"answer": "x", "give_up": True})), 0.0),
        ((FINISH,), 0.0),
        ((channels, search), 0.0),
    ]:
        assert play(suite, *calls)[1]["success"] == success, calls
    env, _ = play(suite, odd)
    assert json.loads(env.episode[-1].result.content) == {"error": "", "response": {"x": "str"}}  # type: ignore[index]
    assert recall(frozenset("ab"), frozenset("bcd")) == pytest.approx(1 / 3)


def test_what_is_missing_or_broken_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPTOOL_TOOLBENCH", raising=False)
    with pytest.raises(MissingExtra, match="StableToolBench"):
        make_suite("toolbench")
    monkeypatch.setenv("STEPTOOL_TOOLBENCH", str(folder))
    assert len(make_suite("toolbench", split="all")) == 1
    with pytest.raises(UnknownName):
        Toolbench(str(folder), subset="G4")
    with pytest.raises(InvalidArgument):
        Toolbench(str(folder), server="http://a/", cache="b")
    for broken, fault in [("[{}]", "query 1: KeyError"), ("{", "not JSON"), (json.dumps([query() | {"relevant APIs": [["No", "Such"]]}]), "not in the list")]:
        (folder / "G1_tool.json").write_text(broken, encoding="utf-8")
        with pytest.raises(DataError, match=fault):
            Toolbench(str(folder))


# ---------------------------------------------------------------- the protocol
REPLIES: dict[str, Reply | Any] = {
    "ok": {"error": "", "response": "{'channels': ['NatureDoc']}"},
    "object": {"error": "", "response": {"videos": [{"id": 7}]}},
    "missing": {"error": "Missing required parameter: category", "response": ""},
    "timeout": {"error": "Timeout error...", "response": ""},
    "broken": {"error": "API not working error...", "response": ""},
    "message": {"error": "Message error...", "response": ""},
    "parse": {"error": "Tool input parse error...\n", "response": ""},
    "unauthorized": {"error": "Unauthorized error...", "response": ""},
    "unsubscribed": {"error": "Unsubscribed error...", "response": ""},
    "many": {"error": "Too many requests error...", "response": ""},
    "rate": {"error": "Rate limit error...", "response": ""},
    "fake": {"error": "Failed to generate fake response", "response": ""},
    "422": (422, {}, '{"detail": []}'),
    "500": (500, {}, "Internal Server Error"),
    "text": (200, {}, "<html>"),
    "list": (200, {}, "[]"),
    "long": {"error": "", "response": "x" * 5000},
}


@pytest.mark.parametrize(
    ("case", "error"),
    [
        *((case, "") for case in ("ok", "object", "long")),
        *((case, "rejected") for case in ("missing", "parse")),
        *((case, "transient") for case in ("broken", "message", "timeout", "many", "rate")),
        *((case, "unavailable") for case in ("unauthorized", "unsubscribed", "fake", "422", "500", "text", "list")),
    ],
)
def test_every_status_of_the_protocol(case: str, error: str) -> None:
    pytest.importorskip("httpx2")
    bodies: list[dict[str, Any]] = []

    def reply(request: Request) -> Reply:
        assert (request.method, request.path) == ("POST", "/virtual")
        bodies.append(json.loads(request.body))
        found = REPLIES[case]
        return found if isinstance(found, tuple) else (200, {}, json.dumps(found))

    with serving(reply) as here:
        server = VirtualServer(f"http://{here}/virtual", HttpClient([here], backoff=0.0), wait=0.0, key="k")
        if error == "unavailable":
            with pytest.raises(Unavailable):
                server.ask(VIMEO, {"format": "json", "category": "nature"})
            assert len(bodies) == (3 if case == "500" else 1)
        else:
            result = server.ask(VIMEO, {"format": "json", "category": "nature"})
            assert result.error == error
            assert len(bodies) == (3 if case in ("many", "rate") else 1)
            assert len(result.content) <= 1024 + 3
        server.client.close()
    assert bodies[0] == {
        "category": "Media",
        "tool_name": "Vimeo",
        "api_name": "GetRelatedChannels",
        "tool_input": '{"category":"nature","format":"json"}',
        "strip": "",
        "toolbench_key": "k",
    }


def test_an_episode_against_a_server_that_dies(folder: Path) -> None:
    pytest.importorskip("httpx2")
    with serving(lambda request: (200, {}, json.dumps(REPLIES["ok"]))) as here:
        suite = Toolbench(str(folder), split="all", server=f"http://{here}/virtual")
        env = StepToolEnv(suite)
        env.reset(seed=0)
        for call in env.solution():
            *_, terminated, _, info = env.step(call)
        assert (terminated, info["success"], info["masked"]) == (True, 1.0, False)
    suite.backend.client.attempts, suite.backend.url = 1, "http://127.0.0.1:9/virtual"  # type: ignore[attr-defined]
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(env.solution()[0])
    assert (reward, terminated, truncated, info["masked"], info["tool_error"]) == (0.0, False, True, True, "unavailable")


def test_the_cache_is_read_whatever_the_order_of_keys(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "cache" / "Media" / "vimeo_for_Media" / "getrelatedchannels.json"
    file.parent.mkdir(parents=True)
    entries = {"{'format': 'json', 'category': 'nature'}": REPLIES["ok"], "{}": REPLIES["missing"], "{'category': 'x'}": REPLIES["unauthorized"]}
    file.write_text(json.dumps(entries), encoding="utf-8")
    cache = CacheFolder(tmp_path / "cache")
    for arguments in ({"category": "nature", "format": "json"}, {"format": "json", "category": "nature"}):
        assert cache.ask(VIMEO, arguments).error == ""
    assert cache.ask(VIMEO, {}).error == "rejected"
    assert cache.ask(VIMEO, {"category": "other"}).error == "transient"
    assert cache.ask(Api("Media", "Vimeo", "../../../secrets"), {}).error == "transient"
    assert cache.ask(Api("../..", "Vimeo", "x"), {}).error == "transient"
    with pytest.raises(Unavailable):
        cache.ask(VIMEO, {"category": "x"})
    with pytest.raises(InvalidArgument):
        CacheFolder(tmp_path / "none")
    suite = Toolbench(str(folder), split="all", cache=str(tmp_path / "cache"))
    call = ToolCall("getrelatedchannels_for_vimeo", {"format": "json", "category": "nature"})
    assert "NatureDoc" in play(suite, call)[0].episode[-1].result.content  # type: ignore[index]
    broken = file.with_name("other.json")
    broken.write_text(json.dumps({"__import__('os')": REPLIES["ok"]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"other\.json"):
        cache.ask(Api("Media", "Vimeo", "Other"), {})


def test_names_and_errors() -> None:
    assert [standardize(name) for name in ("Get Related-Channels", "3D models", "/v1/a.b/", "Ünï")] == ["get_related_channels", "get_3d_models", "v1_a_b", "n"]
    assert [verdict(text) for text in ("", "Rate limit per minute error...", "whatever")] == ["", "again", "rejected"]


@pytest.mark.skipif(not STABLETOOLBENCH.is_dir(), reason=f"the 765 released queries are not in {STABLETOOLBENCH}")
def test_all_released_queries_load_and_gold_has_recall_one() -> None:
    suite = Toolbench(str(STABLETOOLBENCH), split="all")
    assert len(suite) == 765
    assert {name: sum(task.tags["subset"] == name for task in suite) for name in ("G1_instruction", "G1_category", "G1_tool")} == {
        "G1_instruction": 163,
        "G1_category": 153,
        "G1_tool": 158,
    }
    parts = [len(Toolbench(str(STABLETOOLBENCH), split=split)) for split in ("train", "test")]
    assert sum(parts) == 765
    env = StepToolEnv(suite, "final")
    for index in range(len(suite)):
        env.reset(options={"task": index})
        for parameters in env.episode.toolkit.parameters.values():  # type: ignore[union-attr]
            jsonschema_rs.meta.validate(parameters)
        for call in env.solution():
            *_, info = env.step(call)
            assert not info["tool_error"]
        assert info["success"] == 1.0
