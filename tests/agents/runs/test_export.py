"""What a run has trained, in folders that other programs load: the same logits, the same play, a card that says what it is."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from command import steptool
from lms import language_model
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from steptool_agents.algorithms import load_algorithm
from steptool_agents.config import Config, preset
from steptool_agents.models.loading import TINY, load_model
from steptool_agents.runs.card import CARD, SETTINGS
from steptool_agents.runs.export import export_run
from steptool_agents.runs.folder import read_config
from steptool_agents.runs.policies import evaluated_policy, load_policy
from steptool_agents.runs.results import REPORT
from steptool_env.errors import CheckpointError, InvalidArgument
from steptool_env.tasks import make_suite

SMALL = {
    "demos": 4, "demo_batch": 4, "episodes": 4, "eval_episodes": 4, "eval_width": 4,
    "max_steps": 3, "max_new_tokens": 32, "epochs": 1, "updates": 1, "report_to": "none",
}
SMALL |= {"minibatches": 1, "value_passes": 1, "bfloat16": False, "token_budget": 16_384, "suite_options": {"level": 1}, "demo_options": {}}
IDS = torch.arange(2, 66).reshape(2, 32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that have ended: of ``tiny``, and of a random model with adapters."""
    folder = tmp_path_factory.mktemp("runs")
    lm = language_model("llama")
    base = str(folder / "base model")  # blanks in its name must do no harm
    lm.keep_own_attention()
    lm.model.save_pretrained(base)
    lm.tokenizer.save_pretrained(base)
    found = {}
    for name, settings in {"tiny": {}, "lora": {"model.name": base, "lora_rank": 2, "lr": 0.05, "seed": 3}}.items():
        config = Config.of(**{**preset("tiny", "worlds"), **SMALL, **settings})
        load_algorithm("step-ppo")(config, folder / name)
        found[name] = folder / name
    return found


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS, use_cache=False).logits  # type: ignore[no-any-return]


def same(model: Any, run: Path, **options: Any) -> bool:
    expected = logits(load_policy(run, device="cpu", **options)[0].lm.model)
    return bool((logits(model) - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max())))


def played(lm: Any, run: Path) -> list[str]:
    """Return the greedy answers to the first observations of some tasks."""
    from steptool_env.env import StepToolEnv

    config = read_config(run)
    envs = [StepToolEnv(make_suite("worlds", level=1, split="test")) for _ in range(4)]
    observations = [env.reset(options={"task": task})[0] for task, env in enumerate(envs)]
    return [generation.text for generation in evaluated_policy(lm, config).act(observations, envs)]


@pytest.mark.parametrize("name", ["tiny", "lora"])
def test_merged(runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    run, to = runs[name], tmp_path / "out"
    assert export_run(run, to) == to
    model = AutoModelForCausalLM.from_pretrained(to)
    assert same(model, run)
    assert not same(AutoModelForCausalLM.from_pretrained(read_config(run).model.name if name == "lora" else TINY, dtype=torch.float32), run), "it has learned"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.steptool_prompt == "terse"
    lm = load_model(str(to), bfloat16=False)
    assert played(lm, run) == played(load_policy(run)[0].lm, run)
    assert AutoTokenizer.from_pretrained(to).get_vocab() == lm.tokenizer.get_vocab()
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", CARD, SETTINGS} <= {path.name for path in to.iterdir()}
    assert not list(to.glob("adapter*"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_adapters(runs: dict[str, Path], tmp_path: Path) -> None:
    run, to = runs["lora"], export_run(runs["lora"], tmp_path / "out", adapters=True)
    assert not (to / "model.safetensors").exists()
    base = AutoModelForCausalLM.from_pretrained(read_config(run).model.name)
    assert same(PeftModel.from_pretrained(base, str(to)), run)
    lm = load_model(str(to), bfloat16=False)
    assert same(lm.model, run)
    assert not isinstance(lm.model, PeftModel)
    assert played(lm, run) == played(load_policy(run)[0].lm, run)
    again = load_model(str(to), lora_rank=2, bfloat16=False)
    assert same(again.model, run), "new adapters change nothing yet"
    (to / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "none")}))
    with pytest.raises(InvalidArgument, match="holds no causal language model"):
        load_model(str(to))


def test_a_chat_template_goes_along(runs: dict[str, Path], tmp_path: Path) -> None:
    """The base model's own, which the card shows at work."""
    base = Path(read_config(runs["lora"]).model.name)
    template = "{% for m in messages %}<<{{ m.role }}>>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<<assistant>>{% endif %}"
    config = json.loads((base / "config.json").read_text())
    (base / "chat_template.jinja").write_text(template)
    (base / "config.json").write_text(json.dumps({name: value for name, value in config.items() if name != "steptool_prompt"}))
    try:
        to = export_run(runs["lora"], tmp_path / "out", warm_start=True)
    finally:
        (base / "chat_template.jinja").unlink()
        (base / "config.json").write_text(json.dumps(config))
    assert AutoTokenizer.from_pretrained(to).chat_template == template
    card = (to / CARD).read_text()
    assert "tokenizer's chat template" in card and "<<user>>" in card and "<<assistant>>" in card


def test_the_card(runs: dict[str, Path], tmp_path: Path) -> None:
    run, to = runs["lora"], tmp_path / "my model"
    card = (export_run(run, to) / CARD).read_text(encoding="utf-8")
    report = json.loads((run / REPORT).read_text())
    for evaluation in (report["before"], report["after"]):
        assert f"| {evaluation['success']:.1%} ({evaluation['success_low']:.0%} to {evaluation['success_high']:.0%}) |" in card
        assert f"| {evaluation['call_accuracy']:.1%} |" in card
    assert f"1 update, {report['env_steps']:,} steps of the environment, {report['model_tokens']:,} tokens" in card
    for words in ('`{"level": 1}`', "`step-ppo`", "`steptool`", "| seed | 3 |", "adapters of rank 2", "terse", "Tools: get_price", "vllm serve", "get_price"):
        assert words in card, words
    assert shlex.join(["steptool", "export", str(run), "--to", str(to)]) in card
    assert f"steptool eval --model {shlex.quote(str(to))} --suite worlds --call-format auto --option level=1" in card
    code = card.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    assert same(names["model"], run)
    assert Config.from_dict(json.loads((to / SETTINGS).read_text())) == read_config(run)
    adapters = (export_run(run, tmp_path / "adapters", adapters=True) / CARD).read_text(encoding="utf-8")
    assert "library_name: peft" in adapters and "--enable-lora --max-lora-rank 8" in adapters and "--adapters" in adapters
    names = {}
    exec(adapters.split("```python\n")[1].split("```")[0], names)
    assert same(names["model"], run)


def test_before_reinforcement_learning(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["tiny"]
    to = export_run(run, tmp_path / "out", warm_start=True)
    model = AutoModelForCausalLM.from_pretrained(to)
    assert same(model, run, warm_start=True)
    assert not torch.equal(logits(model), logits(load_policy(run)[0].lm.model))
    card = (to / CARD).read_text()
    assert "column *warm start*" in card and "--warm-start" in card
    assert "began as `tiny`, trained on `worlds` by demonstrations: " in card
    assert "by demonstrations and `step-ppo`: " in (export_run(run, tmp_path / "after") / CARD).read_text()


def test_a_run_that_has_not_ended(runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "warm_start.safetensors"):
        (run / name).write_bytes((runs["tiny"] / name).read_bytes())
    with pytest.raises(CheckpointError, match=r"has not ended.*--resume.*--warm-start"):
        export_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    card = (export_run(run, tmp_path / "out", warm_start=True) / CARD).read_text()
    assert "the run had not ended" in card
    (run / "warm_start.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights yet"):
        export_run(run, tmp_path / "other", warm_start=True)


def test_what_is_in_the_way(runs: dict[str, Path], tmp_path: Path) -> None:
    to = tmp_path / "out"
    to.mkdir()
    export_run(runs["tiny"], to)  # an empty folder is free
    before = {path.name: path.stat().st_mtime_ns for path in to.iterdir()}
    with pytest.raises(InvalidArgument, match="holds an export; name another folder, or use --force"):
        export_run(runs["tiny"], to)
    assert {path.name: path.stat().st_mtime_ns for path in to.iterdir()} == before
    (to / "stale").touch()
    export_run(runs["tiny"], to, force=True)
    assert not (to / "stale").exists()
    for folder in (runs["tiny"], runs["tiny"].parent):
        with pytest.raises(InvalidArgument, match="no earlier export"):
            export_run(runs["tiny"], folder, force=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidArgument, match="takes a folder, got the file"):
        export_run(runs["tiny"], tmp_path / "file", force=True)
    with pytest.raises(InvalidArgument, match="has no adapters"):
        export_run(runs["tiny"], tmp_path / "other", adapters=True)
    with pytest.raises(CheckpointError, match="holds no run"):
        export_run(tmp_path / "none", tmp_path / "other")
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "other").exists()


def test_whole_or_not_at_all(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    to = export_run(runs["tiny"], tmp_path / "out")
    (to / "old").touch()
    monkeypatch.setattr("steptool_agents.runs.export.write_text", full)
    with pytest.raises(OSError, match="No space left"):
        export_run(runs["tiny"], to, force=True)
    assert (to / "old").exists() and (to / "model.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        return steptool("export", *map(str, arguments), capsys=capsys, monkeypatch=monkeypatch)

    code, out, err = run(runs["lora"], "--to", tmp_path / "out", "--adapters", "--json")
    assert (code, err) == (0, "")
    assert {"adapter_config.json", CARD} <= set(json.loads(out)["files"])
    code, out, err = run(runs["lora"], "--to", tmp_path / "out", "--force")
    assert (code, err) == (0, "")
    assert str(tmp_path / "out") in out and (tmp_path / "out" / "model.safetensors").exists()
    for arguments, words in {
        (runs["lora"], "--to", tmp_path / "out"): "--force",
        (tmp_path / "none", "--to", tmp_path / "x"): "holds no run",
        (runs["tiny"], "--to", tmp_path / "x", "--adapters"): "leave out --adapters",
    }.items():
        code, out, err = run(*arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert words in err
