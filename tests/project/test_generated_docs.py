"""Pages that follow from the code are as new as the code, and say something about every setting and every metric that runs write."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from lms import load_model  # and one thread
from model_servers import Server
from pays import PAYS
from project import ROOT
from servers import serving

from steptool_agents import load_algorithm
from steptool_agents.algorithms import algorithm_settings
from steptool_agents.config import Config, Layer, configure
from steptool_agents.config import parts as parts_module
from steptool_agents.config.config import PARTS
from steptool_agents.rollouts import evaluate
from steptool_agents.runs.trackers import read_metrics
from steptool_agents.show.metrics import METRICS, metric

MADE: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "generate.py"))
SMALL = {"suite_options": {"level": 1}, "demos": 4, "demo_batch": 4, "updates": 1, "episodes": 4, "group": 2, "eval_episodes": 1, "max_steps": 3}


@pytest.mark.parametrize("page", MADE["PAGES"])
def test_a_page_is_not_stale(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == MADE["PAGES"][page](), f"docs/{page} is stale: python docs/generate.py"


def test_every_setting_is_described() -> None:
    source = Path(parts_module.__file__).read_text(encoding="utf-8")
    for part, kind in PARTS.items():
        assert set(MADE["descriptions"](source, kind.__name__)) == set(kind.model_fields), f"a setting of {part} lacks the string below it"
    assert set(MADE["descriptions"](Path(evaluate.__file__).read_text(encoding="utf-8"), "Report")) == set(evaluate.Report.__slots__)


def test_every_setting_and_metric_is_on_its_page() -> None:
    settings, metrics = ((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("settings.md", "metrics.md"))
    for name in Config().flat():
        assert f"| `{name.partition('.')[2]}`" in settings
    for found in (one for group in METRICS.values() for one in group):
        assert f"| `{found.name}` | {found.unit} | {found.meaning}" in metrics


def test_runs_write_these_metrics_and_no_others(tmp_path: Path) -> None:
    """All algorithms together write every metric of the page, and none that is not on it."""
    written: set[str] = set()
    with serving(Server(load_model("tiny"))) as at:
        served = {"kl": 0.01, "servers": f"http://{at}/v1", "server_model": "m"}
        step_ppo = {**served, "updates": 2, "shaper": PAYS}
        for algo, changes in {"step-ppo": step_ppo, "rft": {}, "eto": {}, "archer-lite": {"algo_options": {"warmup": 0}}}.items():
            config = configure([Layer("test", {**SMALL, "algo": algo, "report_to": "none", **changes})], algorithm_settings).config
            load_algorithm(algo)(config, tmp_path / algo)
            written |= {name for line in read_metrics(tmp_path / algo) for name in line} - {"update"}
    nameless = sorted(name for name in written if metric(name) is None)
    assert not nameless, f"describe {nameless} in agents/show/metrics.py"
    unseen = {one.name for group in METRICS.values() for one in group} - {metric(name).name for name in written}  # type: ignore[union-attr]
    assert not unseen, f"no run writes {sorted(unseen)}; take them out of agents/show/metrics.py"


def test_links_within_the_pages_lead_to_headings() -> None:
    for page in MADE["PAGES"]:
        for target, anchor in re.findall(r"\]\((\w+\.md)#([\w-]+)\)", (ROOT / "docs" / page).read_text(encoding="utf-8")):
            headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / target).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings], f"{page} links to {target}#{anchor}"
