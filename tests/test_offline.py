"""Released files become trajectories, and a policy learns from trajectories that lie in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from steptool_agents.config import Config
from steptool_agents.evaluate import evaluate
from steptool_agents.offline import read_annotations, read_step_csv, train
from steptool_agents.policy import OraclePolicy
from steptool_agents.trajectory import read_jsonl, write_jsonl
from steptool_env import Malformed, ToolCall, make_suite
from steptool_env.errors import DataError, InvalidArgument

DATA = Path(os.environ.get("STEPTOOL_DATA", Path(__file__).parent.parent.parent / "shared" / "data")) / "steptool_release"
released = pytest.mark.skipif(not DATA.is_dir(), reason=f"the released example files are not in {DATA}")
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


def test_annotations_by_hand(tmp_path: Path) -> None:
    step = "Step 1: {'name': 'look', 'arguments': '{\"at\": \"a\"}', 'response': 'seven'}"
    final = "Step 2: {'name': 'Finish', 'arguments': '{\"return_type\": \"give_up_and_restart\"}', 'response': ''}"
    judged = {"0": {"succeed_tool_calling": [1], "contributions": [5]}, "1": {"succeed_tool_calling": [0], "contributions": [2]}}
    status = {"0": "AnswerStatus.Solved", "1": "AnswerStatus.Unsure"}
    entry = {"query": "q", "tool_names": ["look", "Finish"], "answer_steps": [step], "process_reward": judged, "final_step": final, "is_solved": status}
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
        rows = read_step_csv(DATA / f"step_grained_{name}.csv")
        assert len(rows) == count
        assert all(0 <= reward <= 1 for row in rows for reward in row.rewards)
        assert sum(isinstance(step.transition.action, ToolCall) for row in rows for step in row.steps) == sum(len(row.steps) for row in rows)
        assert all(row.steps[-1].transition.action.name == "finish" for row in rows)  # type: ignore[union-attr]
    annotated = read_annotations(DATA / "reward_annotation.json")
    assert len(annotated) == 5
    # 32980: three judges, all calls succeeded; contributions (5, 5, 5), (5, 5, 5), (5, 5, 3), (5, 5, 1); solved by all.
    assert annotated[0].rewards.tolist() == pytest.approx([1.0, 1.0, 0.5 + 13 / 30, 0.5 + 11 / 30, 1.0])


def test_a_policy_learns_from_a_file(tmp_path: Path) -> None:
    data = write(tmp_path / "r.csv", *[(PROMPTS, RESPONSES, [0.8, 0.0, 0.5]), (PROMPTS[:1], RESPONSES[2:], [1.0])] * 2)
    settings = {"demos": 0, "demo_epochs": 0, "updates": 1, "episodes": 3, "eval_episodes": 1, "value_passes": 1, "max_new_tokens": 4, "token_budget": 4096}
    report = train(Config.from_dict({"algo": "step-ppo-offline", "data": str(data), **settings}), tmp_path / "run")
    assert report["updates"] == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(abs(line["kl"]) < 1e3 for line in lines if "kl" in line)
    with pytest.raises(InvalidArgument, match="data=FILE"):
        train(Config.from_dict({"algo": "step-ppo-offline", **settings}), tmp_path / "other")
    write_jsonl(tmp_path / "t.jsonl", evaluate(OraclePolicy(), make_suite("worlds"), range(2))[1])
    assert read_jsonl(tmp_path / "t.jsonl")
    with pytest.raises(InvalidArgument, match="no trajectory with tokens"):
        train(Config.from_dict({"algo": "step-ppo-offline", "data": str(tmp_path / "t.jsonl"), **settings}), tmp_path / "third")
