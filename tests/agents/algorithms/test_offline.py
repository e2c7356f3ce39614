"""Released files become trajectories, and a policy learns from trajectories that lie in a file."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lms import passes
from measured import timeless
from project import RELEASED

from steptool_agents import cli
from steptool_agents.algorithms.offline import tokenized, train
from steptool_agents.config import Config
from steptool_agents.learning.reread import as_of_now
from steptool_agents.models.loading import load_model
from steptool_agents.policies.base import OraclePolicy
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.evaluate import evaluate
from steptool_agents.trajectory import write_jsonl
from steptool_agents.trajectory.released import read_annotations, read_step_csv
from steptool_env import Malformed, ToolCall, make_format, make_suite
from steptool_env.errors import DataError, InvalidArgument

released = pytest.mark.skipif(not RELEASED.is_dir(), reason=f"the released example files are not in {RELEASED}")
PROMPTS = ["System: x\nUser: q\nAssistant:\n", "Function: seven\nAssistant:\n", "Function: oops\nAssistant:\n"]
RESPONSES = [
    'Thought: \nAction: look\nAction Input: {"at": "a"}\n',
    "nonsense",
    'Action: Finish\nAction Input: {"return_type": "give_answer", "final_answer": "7"}\n',
]


def write(path: Path, *rows: tuple[object, object, object]) -> Path:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["prompt", "response", "reward"])
        writer.writerows([[repr(cell) for cell in row] for row in rows])
    return path


def test_rows_become_trajectories(tmp_path: Path) -> None:
    (one,) = read_step_csv(write(tmp_path / "r.csv", (PROMPTS, RESPONSES, [0.8, 0.0, 0.5])), lambda text: list(text.encode()))
    assert one.rewards.tolist() == [0.8, 0.0, 0.5]
    assert one.success == 0.5
    assert one.steps[0].transition.action == ToolCall("look", {"at": "a"})
    assert isinstance(one.steps[1].transition.action, Malformed)
    assert one.steps[2].transition.action == ToolCall("finish", {"answer": "7"})
    assert one.steps[0].transition.result.content == PROMPTS[1]
    assert bytes(one.steps[1].generation.prompt_ids).decode() == PROMPTS[1]
    assert bytes(one.steps[1].generation.token_ids).decode() == RESPONSES[1]


@pytest.mark.parametrize("row", [(PROMPTS, RESPONSES, [1.0]), ("__import__('os')", RESPONSES, [1.0]), (PROMPTS, RESPONSES, ["x", 0, 0]), ([], [], [])])
def test_broken_rows_are_named_and_nothing_runs(tmp_path: Path, row: tuple[object, object, object]) -> None:
    with pytest.raises(DataError, match="row 1"):
        read_step_csv(write(tmp_path / "r.csv", (PROMPTS, RESPONSES, [0.8, 0.0, 0.5]), row))


def annotation() -> dict[str, object]:
    step = "Step 1: {'name': 'look', 'arguments': '{\"at\": \"a\"}', 'response': 'seven'}"
    final = "Step 2: {'name': 'Finish', 'arguments': '{\"return_type\": \"give_up_and_restart\"}', 'response': ''}"
    judged = {"0": {"succeed_tool_calling": [1], "contributions": [5]}, "1": {"succeed_tool_calling": [0], "contributions": [2]}}
    status = {"0": "AnswerStatus.Solved", "1": "AnswerStatus.Unsure"}
    return {"query": "q", "tool_names": ["look", "Finish"], "answer_steps": [step], "process_reward": judged, "final_step": final, "is_solved": status}


def test_annotations_by_hand(tmp_path: Path) -> None:
    entry = annotation()
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"9": entry}), encoding="utf-8")
    (one,) = read_annotations(path)
    # ½ · mean(1, 0) = 0.25; ½ · mean(5, 2) / 5 = 0.35; mean(1, ½) = 0.75
    assert [dict(step.parts) for step in one.steps] == [
        {"success": 0.25, "contribution": 0.35, "solved": 0.0},
        {"success": 0.0, "contribution": 0.0, "solved": 0.75},
    ]
    assert one.steps[1].transition.action == ToolCall("finish", {"answer": "", "give_up": True})
    path.write_text(json.dumps({"9": entry | {"answer_steps": []}}), encoding="utf-8")
    with pytest.raises(DataError, match="'9'"):
        read_annotations(path)


@released
def test_the_released_files() -> None:
    for name, count in [("qwen2", 10), ("toolllama", 10), ("llama3-1", 10)]:
        rows = read_step_csv(RELEASED / f"step_grained_{name}.csv")
        assert len(rows) == count
        assert all(0 <= reward <= 1 for row in rows for reward in row.rewards)
        assert sum(isinstance(step.transition.action, ToolCall) for row in rows for step in row.steps) == sum(len(row.steps) for row in rows)
        assert all(row.steps[-1].transition.action.name == "finish" for row in rows)  # type: ignore[union-attr]
    annotated = read_annotations(RELEASED / "reward_annotation.json")
    assert len(annotated) == 5
    # 32980: three judges, all calls succeeded; contributions (5, 5, 5), (5, 5, 5), (5, 5, 3), (5, 5, 1); solved by all.
    assert annotated[0].rewards.tolist() == pytest.approx([1.0, 1.0, 0.5 + 13 / 30, 0.5 + 11 / 30, 1.0])


SETTINGS = {"demos": 0, "demo_epochs": 0, "updates": 1, "episodes": 3, "eval_episodes": 1, "value_passes": 1, "max_new_tokens": 8, "max_steps": 3}


def command(monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> None:
    """Run ``steptool train`` in this process."""
    monkeypatch.setattr(sys, "argv", ["steptool", "train", "--out", str(out), *more])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code


def losses(out: Path) -> list[dict[str, float]]:
    """Return what was measured, update by update; every number must be finite."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(number) for line in lines for number in line.values())
    return lines


def test_released_rows_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = [PROMPTS[0] + "Function: 7 7 7\n" * 2000]  # more than the model's context
    data = write(tmp_path / "rows.csv", *[(PROMPTS, RESPONSES, [0.8, 0.0, 0.5]), (PROMPTS[:1], RESPONSES[2:], [1.0])] * 2, (long, RESPONSES[2:], [1.0]))
    start = ["--algo", "step-ppo-offline", *(part for name, value in (SETTINGS | {"updates": 2}).items() for part in ("--set", f"{name}={value}"))]
    command(monkeypatch, tmp_path / "run", *start, "--set", f"data={data}")
    first = losses(tmp_path / "run")
    assert [line["update"] for line in first] == [0, 1]
    assert all({"policy_loss", "value_loss", "kl", "grad_norm"} <= {*line} for line in first)
    assert first[1]["model_tokens"] > first[0]["model_tokens"] > 0
    command(monkeypatch, tmp_path / "run", "--resume", "--updates", "3")
    assert losses(tmp_path / "run")[:2] == first
    assert [line["update"] for line in losses(tmp_path / "run")] == [0, 1, 2]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["updates"] == 3 and report["env_steps"] == 0


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.csv", *[(PROMPTS, RESPONSES, [0.8, 0.0, 0.5]), (PROMPTS[:1], RESPONSES[2:], [1.0])] * 2)
    made = Config.of(**{"algo": "step-ppo-offline", "data": str(data), **SETTINGS, "updates": 2, "lr_end": 1.0})
    train(made, tmp_path / "whole")
    train(made.replace(updates=1), tmp_path / "parts")
    train(made, tmp_path / "parts", resume=True)
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "parts")


def test_annotated_trajectories_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "annotated.json"
    data.write_text(json.dumps({str(number): annotation() for number in range(3)}), encoding="utf-8")
    start = ["--algo", "step-ppo-offline", *(part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}"))]
    command(monkeypatch, tmp_path / "run", *start, "--set", f"data={data}")
    assert [line["update"] for line in losses(tmp_path / "run")] == [0]


def test_annotations_are_written_as_the_model_reads_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"9": annotation()}), encoding="utf-8")
    lm = load_model("tiny")
    policy = LMPolicy(lm, "hermes")
    one = tokenized(read_annotations(path)[0], policy)
    said = [lm.tokenizer.decode(step.generation.token_ids) for step in one.steps]
    assert [make_format("hermes").parse(text) for text in said] == [step.transition.action for step in one.steps]
    read = [lm.tokenizer.decode(step.generation.prompt_ids) for step in one.steps]
    assert "look finish" in read[0] and "q" in read[0]
    assert read[1].strip() == "seven"
    now = as_of_now(passes(lm), [one])[0]
    assert all(number < 0 for step in now.steps for number in step.generation.logprobs)
    assert now.rewards.tolist() == one.rewards.tolist()


def test_files_that_nothing_can_be_learnt_from(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="data=FILE"):
        train(Config.of(**{"algo": "step-ppo-offline", **SETTINGS}), tmp_path / "no data")
    write_jsonl(tmp_path / "t.jsonl", evaluate(OraclePolicy(), make_suite("worlds"), range(2))[1])
    (_, played) = evaluate(LMPolicy(load_model("tiny"), "hermes", max_new_tokens=12), make_suite("worlds"), range(2))
    unread = [replace(one, steps=tuple(replace(step, generation=replace(step.generation, prompt_ids=())) for step in one.steps)) for one in played]
    write_jsonl(tmp_path / "u.jsonl", unread)
    write(tmp_path / "long.csv", ([PROMPTS[0] + "Function: 7 7 7\n" * 2000], RESPONSES[2:], [1.0]))
    wrong = {"t.jsonl": "no trajectory with tokens", "u.jsonl": "tokens of actions and not of prompts", "long.csv": "the shortest has", "x.csv": "not exist"}
    for number, (name, fault) in enumerate(wrong.items()):
        with pytest.raises(InvalidArgument, match=fault):
            train(Config.of(**{"algo": "step-ppo-offline", "data": str(tmp_path / name), **SETTINGS}), tmp_path / str(number))
