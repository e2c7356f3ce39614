"""benchmarks/campaign.py: its short form ends as it should, it goes on where it was stopped, and it sees what it looks for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_files import BENCHMARKS, load
from project import ROOT

pytest.importorskip("httpx2")
pytest.importorskip("torch")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    return load("campaign")


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Find the modules beside the script."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return


def start(work: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(BENCHMARKS / "campaign.py"), "--work", str(work), "--json", "--jobs", "1", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the result of the short campaign, which is killed once and goes on."""
    work = tmp_path_factory.mktemp("campaign")
    state, end = work / "state.jsonl", time.monotonic() + 600
    first = start(work, "--short")
    while first.poll() is None and (not state.exists() or state.read_bytes().count(b"\n") < 2):
        assert time.monotonic() < end, "no case within ten minutes"
        time.sleep(0.01)
    first.kill()
    first.communicate()
    known = set(state.read_text(encoding="utf-8").splitlines())
    second = start(work, "--short")
    said, _ = second.communicate(timeout=900)
    assert known <= set(state.read_text(encoding="utf-8").splitlines()), "what was done was done again"
    return work, json.loads(said)


@pytest.mark.slow
def test_the_short_campaign(short: tuple[Path, dict[str, Any]]) -> None:
    result = short[1]
    assert not result["wrong"], "\n".join(f"{key}: {record['ending']}: {record['detail']}" for key, record in result["wrong"].items())
    cases: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for row in result["rows"]:
        cases[row["part"]] += row["cases"]
        counts.update(row["counts"])
    assert cases.keys() >= {"kills", "files", "servers", "texts", "growth"}
    assert counts["kills"] >= cases["kills"] >= 3
    assert counts["kills, update"], "while the episodes of the next update were played ahead"
    assert counts["texts"] >= 1500
    assert counts["addresses"] >= 80


# ---------------------------------------------------------------- it sees what it looks for
@pytest.mark.slow  # for what it begins with
@pytest.mark.parametrize(
    ("file", "change", "seen"),
    [
        ("metrics.jsonl", lambda path: path.write_bytes(path.read_bytes().partition(b"\n")[2]), "metrics: 1 rows for 2"),
        ("report.json", lambda path: path.write_text(path.read_text().replace('"updates": 2', '"updates": 3')), "report: updates"),
        ("trajectories.jsonl", lambda path: path.write_bytes(path.read_bytes() * 2), "trajectories"),
        ("config.json", lambda path: path.write_text(path.read_text().replace('"lr": 0.0003', '"lr": 0.0004')), "settings: learning.lr"),
        (".config.json.1.2.tmp", lambda path: path.touch(), "left over: .config.json.1.2.tmp"),
        ("checkpoints/update-00000002", lambda path: shutil.rmtree(path), r"checkpoints \[1\] instead of \[1, 2\]"),
    ],
)
def test_differences_are_seen(short: tuple[Path, dict[str, Any]], tmp_path: Path, file: str, change: Any, seen: str) -> None:
    from campaign_parts.runs import differences

    reference = next(iter((short[0] / "cases" / "kills").glob("reference-step-ppo-*/out")))
    shutil.copytree(reference, tmp_path / "run")
    assert differences(reference, tmp_path / "run") == []
    change(tmp_path / "run" / file)
    shutil.rmtree(tmp_path / "run" / ".seals")  # as if the run had written it so
    assert re.search(seen, "\n".join(differences(reference, tmp_path / "run")))


@pytest.mark.slow
def test_other_weights_are_seen(short: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from campaign_parts.runs import differences

    from steptool_agents.runs.checkpoint import load_checkpoint, save_checkpoint

    reference = next(iter((short[0] / "cases" / "kills").glob("reference-step-ppo-*/out")))
    out = tmp_path / "run"
    shutil.copytree(reference, out)
    update, tensors, state = load_checkpoint(out)
    name = min(name for name in tensors if name.startswith("model."))
    tensors[name].view(-1)[0] += 1e-3
    state["run"]["spent"]["env_steps"] += 1
    save_checkpoint(out, update, tensors=tensors, state=state)
    assert differences(reference, out) == [f"update {update}: 1 tensors, {name} among them", f"update {update}: the state's run.spent.env_steps"]


def test_a_case_may_hang_die_or_raise(tmp_path: Path) -> None:
    program = f"""
import json, os, sys, time
sys.path.insert(0, {str(BENCHMARKS)!r})
from pathlib import Path
from campaign_parts.cases import Case, Child, Outcome
ways = {{
    "hangs": lambda case, work: time.sleep(60), "dies": lambda case, work: os._exit(3), "raises": lambda case, work: 1 / 0,
    "exits": lambda case, work: sys.exit(0), "ends": lambda case, work: Outcome(True, "well", "", {{"tries": 1}}),
}}
ended = {{}}
for name, way in ways.items():
    child = Child(Case("part", "kind", name, limit=0.5 if name == "hangs" else 60), way, Path({str(tmp_path)!r}))
    while (found := child.poll()) is None:
        time.sleep(0.01)
    ended[name] = [found[0].right, found[0].ending, found[0].counts]
print(json.dumps(ended))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    wrong = {"hangs": "hung", "dies": "died", "raises": "raised", "exits": "raised"}
    assert json.loads(said) == {**{name: [False, ending, {}] for name, ending in wrong.items()}, "ends": [True, "well", {"tries": 1}]}


@pytest.mark.parametrize(
    "code", [lambda key: key, lambda key: key[:9], lambda key: key.replace("/", "\\/"), lambda key: key.replace("%", "%25").replace("/", "%2F")]
)
def test_a_key_is_recognized(code: Any) -> None:
    from campaign_parts.servers import KEY, _shows

    assert _shows(f"your key is {code(KEY)}")
    assert not _shows("your key is ***")
    assert not _shows(f"your key is {KEY[:7]}")


def test_a_state_of_another_campaign_is_refused_and_half_a_line_dropped(campaign: ModuleType, tmp_path: Path) -> None:
    from campaign_parts.cases import Case, Outcome

    about, path = {"seed": 0, "short": False}, tmp_path / "state.jsonl"
    state = campaign.State(path, about)
    state.add(Case("files", "resumed", "a"), Outcome(True, "said"), 0.5)
    state.add(Case("files", "resumed", "b"), Outcome(False, "silent"), 0.5)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"key": "files/res')
    assert {key: record["ending"] for key, record in campaign.State(path, about).done.items()} == {"files/resumed/a": "said", "files/resumed/b": "silent"}
    assert set(campaign.State(path, about, again=True).done) == {"files/resumed/a"}
    with pytest.raises(SystemExit, match="state of another campaign"):
        campaign.State(path, {"seed": 1, "short": False})


def test_the_whole_campaign_is_as_large_as_it_says() -> None:
    import importlib

    from campaign_parts.addresses import addresses

    cases = {part: importlib.import_module(f"campaign_parts.{part}").cases(0) for part in ("kills", "files", "servers", "texts", "actions", "growth")}
    assert all(len({case.key for case in those}) == len(those) for those in cases.values())
    assert len(cases["kills"]) >= 300
    assert {case.kind for case in cases["kills"]} >= {"grid", "two processes", "model server", "playing ahead", "steptool train", "steptool table"}
    assert sum(map(len, addresses().values())) >= 268
    texts = importlib.import_module("campaign_parts.texts")
    assert sum(texts.BATCH for case in cases["texts"] if case.kind != "large texts" and not case.short) >= 1_000_000
    actions = importlib.import_module("campaign_parts.actions")
    assert len(cases["actions"]) * actions.BATCH >= 100_000
    assert {case.options["count"] for case in cases["growth"]} >= {20_000, 200}


def test_every_algorithm_is_killed() -> None:
    from campaign_parts.kills import ALGORITHMS

    from steptool_agents import ALGORITHMS as registered

    assert set(ALGORITHMS) == set(registered)


# ---------------------------------------------------------------- the page
def test_what_the_security_page_names_exists(campaign: ModuleType) -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    files = set(re.findall(r"(?:tests|benchmarks)/[\w/]+\.py", text))
    assert len(files) > 10
    for file in files:
        assert (ROOT / file).is_file(), f"SECURITY.md names {file}, which does not exist"
    named = set(re.findall(r"campaign `(\w+)`", text))
    assert named == set(campaign.PARTS)
    import importlib

    kinds = {case.kind for case in importlib.import_module("campaign_parts.servers").cases(0)}
    inside = {kind.strip() for group in re.findall(r"campaign `servers` \(([^)]*)\)", text) for kind in group.split(",")}
    assert inside == kinds, "every kind of server proves a promise, and every promise about servers names one"
    for page in ("README.md", "docs/index.md"):
        assert "SECURITY.md" in (ROOT / page).read_text(encoding="utf-8")
