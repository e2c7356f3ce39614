"""The report of a run: what is on it, that nothing a model or a tool wrote is more than text, that it stays small, and how a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import steptool
from viewed import EPISODES, RUDE, Reader, failed, rude, solved

from steptool_agents.config import Config
from steptool_agents.rollouts.evaluate import summarize
from steptool_agents.runs.folder import write_config
from steptool_agents.runs.record import read_record, read_records
from steptool_agents.runs.results import write_before, write_report
from steptool_agents.runs.trackers import Metrics
from steptool_agents.show.report import RunRecord, report_page
from steptool_agents.trajectory import Generation, Trajectory
from steptool_env.errors import CheckpointError, InvalidArgument
from steptool_env.types import Outcome

CONFIG = Config.of(lr=1e-4, suite_options={"level": 1})
METRICS = [
    {"update": k, "success": 0.25 * k, "reward": 0.5 * k, "reward/sc": -0.1, "errors/malformed": 0.1, "errors/rejected": 0.0, "steps": 3.0, "kl": 0.01,
     "action_length": 9.0, "tokens_per_second": 900.0, "seconds/generate": 1.0, "tokens/generate": 900.0, "mine": 7.0}
    for k in range(3)
]  # fmt: skip


def written(run: Path, **changes: Any) -> Path:
    """Write a run's folder as a run does, with three held-out episodes of which one was learned."""
    run.mkdir()
    write_config(run, CONFIG.replace(**changes))
    with Metrics(run, "none") as metrics:
        for line in METRICS:
            metrics.log(line["update"], {name: value for name, value in line.items() if name != "update"})
    before = [failed_at(solved()), *EPISODES[1:]]
    write_before(run, before)
    about = {"plays": "plays worlds, level 1: 10 tasks", "updates": 3, "seconds": 61.0, "env_steps": 1234, "model_tokens": 5678}
    report = {"before": summarize(before).as_dict(), "after": summarize(EPISODES).as_dict(), **about}
    write_report(run, CONFIG.replace(**changes), report, EPISODES)
    return run


def failed_at(trajectory: Trajectory) -> Trajectory:
    *first, last = trajectory.steps
    return Trajectory((*first, replace(last, transition=last.transition._replace(outcome=Outcome(0.0, "wrong")))))


def test_the_report_by_hand(tmp_path: Path) -> None:
    run = written(tmp_path / "one")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page == report_page([read_record(run)])
    texts = Reader(page).texts
    for text in (
        *("one", "Held-out success: 0.0% (0% to 0%) before training, ", "33.3% (0% to 100%)", "Plays worlds, level 1: 10 tasks."),
        *("Calls with an error, by kind", "malformed 10%", "Your own metrics", "last: 7", "1 (1)", "count (3)", "call accuracy"),
        *("3 tasks of 3 (learned: 1, lost: 0, failed both times: 2, solved both times: 0).", "0, shallow, depth=1, family=count, learned"),
        *("before: failed, 2 calls, reward +1.500", "after: solved, 2 calls, reward +1.500", "Not solved: wrong. 2 calls, +1.500 in all."),
        *("generate", "900", "learning.lr", "0.0001", "0.0003", "run.seed"),
        "61 s in all, evaluation included; 1234 calls in training environments; 5678 tokens read, written or trained on.",
    ):
        assert text in texts, text
    assert texts.index("learning.lr") < texts.index("All others") < texts.index("run.seed")


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    for name, changes in (("a", {}), ("b", {"seed": 1})):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "run", **changes)
    records = read_records([tmp_path / "a" / "run", tmp_path / "b" / "run"])
    assert [record.name for record in records] == ["a", "b"]
    texts = Reader(report_page(records)).texts
    for text in ("2 runs: a, b", "a 50%", "b 50%", "a, before", "b, after training", "Episodes: b", "run.seed"):
        assert text in texts, text
    assert texts.index("run.seed") < texts.index("All others")
    with pytest.raises(InvalidArgument, match="every run once"):
        read_records([tmp_path / "a" / "run", tmp_path / "a" / ".." / "a" / "run"])
    with pytest.raises(InvalidArgument, match="up to 12 runs"):
        read_records([tmp_path / str(number) for number in range(13)])


def test_a_run_that_has_not_ended(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    for name in ("report.json", "report.html", "trajectories.jsonl"):
        (run / name).unlink()
    texts = Reader(report_page([read_record(run)])).texts
    assert "Not ended yet: 3 updates so far." in texts and "malformed 10%" in texts and "Held-out tasks" not in texts
    (run / "metrics.jsonl").unlink()
    assert "No updates." in Reader(report_page([read_record(run)])).texts
    (run / "before.jsonl").write_text("{}")
    with pytest.raises(CheckpointError, match="the report does without it"):
        read_record(run)


def test_a_run_without_episodes_before(tmp_path: Path) -> None:
    """``sft`` has none, nor has a run that was begun by an earlier version."""
    run = written(tmp_path / "run")
    (run / "before.jsonl").unlink()
    texts = Reader(report_page([read_record(run)])).texts
    assert "3 tasks of 3 (solved: 1, failed: 2)." in texts and "played: solved, 2 calls, reward +1.500" in texts


def hostile() -> RunRecord:
    config = CONFIG.replace(shaper_options={RUDE: RUDE}, suite=f"{RUDE}:x")
    line = {"update": 0, f"reward/{RUDE}": 1.0, RUDE: 1.0, f"seconds/{RUDE}": 1.0}
    report = {"before": None, "after": summarize([rude()]).as_dict(), "plays": RUDE, "updates": 1, "seconds": 1.0}
    return RunRecord(RUDE, config, [line], report, [rude()], [rude()])


def test_the_page_loads_and_runs_nothing() -> None:
    for records in ([hostile()], [hostile(), hostile()._replace(name="other")]):
        page = report_page(records)
        page.encode()
        read = Reader(page)
        assert not {"script", "img", "link", "iframe", "a", "object", "base", "form"} & {tag for tag, _ in read.tags}
        names = {name for _, attributes in read.tags for name in attributes}
        assert not [name for name in names if name.startswith("on") or name in ("src", "href", "srcset", "action", "xlink:href")]
        assert "default-src 'none'" in page and "url(" not in page and "@import" not in page and "http" not in page.replace("http-equiv", "")


def test_a_page_stays_small() -> None:
    long = solved().steps[0]
    loud = Generation("<&" * 100_000, long.generation.action, token_ids=tuple(range(5000)), logprobs=(-1.0,) * 5000)
    steps = tuple(replace(long, generation=loud, transition=long.transition._replace(step=k, result=long.transition.result)) for k in range(200))
    episodes = [Trajectory(steps)] * 50
    record = RunRecord("run", CONFIG, [{"update": k, "success": 0.5, "mine": float(k)} for k in range(20_000)], hostile().report, episodes, episodes)
    assert len(report_page([record])) < 6_000_000
    assert len(report_page([record._replace(name=str(number)) for number in range(12)])) < 14_000_000


# -------------------------------------------------------------------- the command
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    page = (one / "report.html").read_bytes()
    assert steptool("report", "one", capsys=capsys, monkeypatch=monkeypatch) == (0, "Saved: one/report.html\n", "")
    assert (one / "report.html").read_bytes() == page
    code, out, _ = steptool("report", "one", "other", "--json", capsys=capsys, monkeypatch=monkeypatch)
    assert (code, json.loads(out)) == (0, {"page": "report.html", "runs": ["one", "other"]})
    assert "2 runs: one, other" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert steptool("report", "one", "other", capsys=capsys, monkeypatch=monkeypatch)[0] == 0  # its own page is replaced
    (tmp_path / "mine.html").write_text("mine")
    code, _, err = steptool("report", "one", "--out", "mine.html", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2 and "--force" in err and (tmp_path / "mine.html").read_text() == "mine"
    code, _, err = steptool("report", "no", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2 and "holds no run" in err
    assert other.is_dir()


# -------------------------------------------------------------------- notebooks
def test_what_a_notebook_shows() -> None:
    shown = failed()._repr_html_()
    assert {"Count to 2.", "I think it is 2. ", "[no call]", "Not solved. 2 calls, -0.500 in all. Out of calls."} <= set(Reader(shown).texts)
    Reader(rude()._repr_html_())
    assert "<script>" not in rude()._repr_html_()


# -------------------------------------------------------------------- a browser
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_shows_it_without_a_fault(tmp_path: Path) -> None:
    """At the width of a phone nothing is wider than the page but what scrolls by itself; nothing is refused, and no error is logged."""
    run = written(tmp_path / "run")
    page = (run / "report.html").read_text(encoding="utf-8").replace("<details", "<details open")
    probe = """<script>
    const wide = [...document.querySelectorAll('body *')].filter(e => !e.closest('.wide, svg') && e.getBoundingClientRect().right > innerWidth + 1);
    const dots = [...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().height < 20).length;
    document.title = JSON.stringify([wide.map(e => e.outerHTML.slice(0, 80)), document.querySelectorAll('svg').length, dots, innerWidth]);
    </script></body>"""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", page).replace("</body>", probe)
    (tmp_path / "probe.html").write_text(f"<!doctype html>{page}", encoding="utf-8")
    frame = f'<iframe src="{(tmp_path / "probe.html").as_uri()}" width="390" height="4000"></iframe>'
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,844", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, (tmp_path / "probe.html").as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None, done.stdout[:500]
    wide, charts, flat, width = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert charts > 8 and not flat and width <= 600
    assert not wide, wide
