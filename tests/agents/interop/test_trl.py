"""Suites in TRL: what it is shown, and that it is paid what our own rollout pays. The last test trains with TRL itself."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import pytest
from replays import call, replay
from toy import Counting

from steptool_agents.config.presets import CHAINS
from steptool_agents.interop.trl import Environments, TrlEnvironment, environments, reward
from steptool_env import FINISH, StepToolEnv, Task, ToolCall, Toolkit, tool
from steptool_env.errors import InvalidArgument, NotSupported, ResetNeeded, UnknownName

installed = importlib.util.find_spec("trl") is not None and importlib.util.find_spec("datasets") is not None


def paid(environment: TrlEnvironment, *completion: dict[str, Any]) -> tuple[float | None, dict[str, float]]:
    """Return what an episode that is over is paid, and what is logged."""
    logged: dict[str, float] = {}
    (value,) = reward([environment], [list(completion)], log_metric=logged.__setitem__, prompts=[], trainer_state=None)
    return value, logged


def started(play: Environments, row: int = 0) -> TrlEnvironment:
    """Return an environment that plays a row of the data, as TRL starts it."""
    environment = play.factories[play.rows[row]["environment"]]()
    environment.reset(**{name: value for name, value in play.rows[row].items() if name != "environment"})
    return environment


def say(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


# ---------------------------------------------------------------- rewards
@pytest.mark.parametrize("shaper", ["steptool", "potential", "final", "budget"])
def test_the_reward_is_that_of_our_own_rollout(shaper: str) -> None:
    rng, options = random.Random(shaper), {"suite": "worlds", "level": 2, "faults": 1}
    play = environments(tasks=range(30), shaper=shaper, **options)
    ends = set()
    for row in range(30):
        environment, actions, most = started(play, row), [], rng.randrange(1, 12)
        env = environment._visit.env
        while len(actions) < most and not environment._visit.ended:
            actions.append(call(rng, env, offered=True))
            getattr(environment, actions[-1].name)(**actions[-1].arguments)
        finished = environment._visit.ended
        value, logged = paid(environment, say("I give up."))
        ours = replay(row, actions, "I give up.", shaper=shaper, **options)
        assert value == sum(ours.rewards)
        last = ours.steps[-1].transition
        assert last.outcome is not None
        assert logged == {"masked": 0.0, "steps": len(ours.steps), "success": last.outcome.solved}
        ends.add((finished, last.terminated))
    assert ends == {(True, True), (False, False), (True, False)}, "finished, left, and out of steps"


def test_walking_away_earns_nothing() -> None:
    """A shaper that pays progress in advance is paid back."""
    environment = started(environments(Counting(), shaper="potential"))
    environment.add(amount=3)  # type: ignore[attr-defined]
    assert environment._visit.reward == 1.0
    assert paid(environment, say("Bye."))[0] == 0.0


def test_the_budget_holds_and_nothing_is_executed_behind_the_end() -> None:
    play = environments(Counting(), range(4), max_steps=2, longest=5)
    assert play.max_calls == 2
    environment: Any = started(play)
    assert environment.add(amount=1) == "The counter shows 1."
    assert environment.add(amount=1) == "end. " * 5, "too long for TRL, so the episode ends with the call"
    before = paid(environment)
    environment.add(amount=1)
    assert paid(environment) == before
    assert environment._visit.episode.toolkit.state.value == 2


def test_an_infrastructure_fault_is_left_out_and_counted() -> None:
    environment: Any = started(environments(Counting()))
    environment.add(amount=3)
    environment.phone()
    assert paid(environment) == (None, {"masked": 1.0, "steps": 2.0})


def test_an_environment_is_used_again() -> None:
    play = environments(Counting())
    environment: Any = started(play)
    environment.phone()
    for row in (0, 1):
        environment.reset(**play.rows[row])
        environment.add(amount=row + 3)
        environment.finish(answer=str(row + 3))
        assert paid(environment)[1] == {"masked": 0.0, "steps": 2.0, "success": 1.0}


# ---------------------------------------------------------------- what TRL shows the model
def test_tasks_with_the_same_tools_share_an_environment() -> None:
    assert len(environments(Counting()).factories) == 1
    play = environments("worlds", range(20), level=1)
    assert 1 < len(play.factories) <= 20
    for row in play.rows:
        environment = play.factories[row["environment"]]()
        suite = environment._visit.env.suite
        task = suite[row["task"]]
        assert row["prompt"] == [{"role": "user", "content": task.instruction}]
        schemas = {schema["function"]["name"]: schema for schema in json.loads(suite.toolkit(task).schemas)}
        assert {name: method for name, method in vars(environment).items() if not name.startswith("_")} == schemas, "word for word"


@pytest.mark.parametrize("name", ["reset", "get_reward", "_hidden"])
def test_names_that_trl_cannot_offer(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot offer the tool '{name}'"):
        environments(_with(name))


def test_names_that_are_no_identifiers_are_fine() -> None:
    environment = started(environments(_with("lambda-x")))
    assert getattr(environment, "lambda-x")(self="a", amount=2) == "done"


def _with(name: str) -> Counting:
    @tool(timeout=None, name=name)
    def anything(self: str = "", amount: int = 0) -> str:
        """Do something."""
        return "done"

    suite = Counting()
    suite.tools = [anything, FINISH]
    return suite


# ---------------------------------------------------------------- whose fault
def test_what_is_wrong_with_the_program_is_not_told_to_the_model() -> None:
    """TRL turns an exception of a tool into its result; ours comes back when the batch is paid."""

    def broken(episode: Any) -> dict[str, float]:
        return {"r": float("nan")}

    environment: Any = started(environments(Counting(), shaper=broken))
    with pytest.raises(InvalidArgument, match="every part must be finite"):
        environment.roll()
    with pytest.raises(InvalidArgument, match="every part must be finite"):
        paid(environment)
    with pytest.raises(ResetNeeded):
        environments(Counting()).factories["counting-0"]().roll()  # type: ignore[attr-defined]
    with pytest.raises(UnknownName):
        environments("wrlds")


def test_tools_that_change_are_refused() -> None:
    class Changing(Counting):
        def toolkit(self, task: Task) -> Toolkit:
            class Growing(Toolkit):
                def answer(self, call: ToolCall) -> Any:
                    self._schemas = "[]"
                    return super().answer(call)

            return Growing(self.tools, super().toolkit(task).state)

    environment: Any = started(environments(Changing()))
    with pytest.raises(NotSupported, match="changes its tools"):
        environment.roll()
    with pytest.raises(NotSupported, match="changes its tools"):
        paid(environment)


# ---------------------------------------------------------------- TRL itself
@pytest.mark.skipif(not installed, reason="TRL and datasets are not installed: pip install 'steptool-env[trl]'")
@pytest.mark.filterwarnings("ignore")  # TRL's, transformers' and those of what they import
def test_grpo_trains_and_pays_what_our_own_rollout_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from steptool_agents.models.loading import TINY, load_model
    from steptool_agents.policies.local import LMPolicy

    play = environments("worlds", range(8), **CHAINS)
    seen: list[dict[str, Any]] = []

    def watched(prompts: Any, completions: Any, task: Any, **rest: Any) -> Any:
        values = reward(completions=completions, **rest)
        seen.extend({"task": one[0], "completion": one[1], "value": one[2]} for one in zip(task, completions, values, strict=True))
        return values

    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32), AutoTokenizer.from_pretrained(TINY)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    args = GRPOConfig(
        str(tmp_path), max_steps=2, per_device_train_batch_size=8, num_generations=4, max_completion_length=200, max_tool_calling_iterations=play.max_calls,
        learning_rate=1e-4, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = GRPOTrainer(model, watched, args, Dataset.from_list(play.rows), processing_class=tokenizer, environment_factory=play.factories)
    batches: list[Any] = []
    generate = trainer._generate_and_score_completions
    monkeypatch.setattr(trainer, "_generate_and_score_completions", lambda inputs: batches.append(generate(inputs)) or batches[-1])
    trainer.train()

    assert len(seen) == 16 and len(batches) == 2
    ours = [replay(one["task"], _steps(play, one), str(one["completion"][-1]["content"]), suite="worlds", **CHAINS) for one in seen]
    assert [one["value"] for one in seen] == [sum(trajectory.rewards) for trajectory in ours]
    assert len({tuple(trajectory.rewards) for trajectory in ours}) > 3, "the model plays well and badly: else this test shows little"
    assert trainer.state.log_history[0]["reward"] == pytest.approx(sum(one["value"] for one in seen[:8]) / 8, abs=1e-5)
    assert any(not torch.equal(weights, before[name]) for name, weights in model.state_dict().items())

    policy, env = LMPolicy(load_model("tiny")), StepToolEnv("worlds", **CHAINS)
    observations = [env.reset(options={"task": row})[0] for row in range(8)]
    prompts = [policy.prompts.prompt({**one, "tools": json.dumps(sorted(json.loads(one["tools"]), key=str))}) for one in observations]
    for batch in batches:
        for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True):
            assert ids[mask.bool()].tolist() in prompts, "the prompt is our own, token for token"
        for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True):
            assert tokenizer.decode(ids[mask.bool()]).endswith("</tool_call>"), "an episode ends with its last call"


def _steps(play: Environments, episode: dict[str, Any]) -> list[ToolCall]:
    """Return the calls that TRL has handed on: within its own limit, and of tools on offer."""
    replies = [message["tool_calls"] for message in episode["completion"] if message.get("tool_calls")][: play.max_calls]
    functions = [one["function"] for reply in replies for one in reply]
    offered = vars(play.factories[play.rows[episode["task"]]["environment"]]())
    return [ToolCall(function["name"], function["arguments"]) for function in functions if function["name"] in offered]


@pytest.mark.skipif(not installed, reason="TRL and datasets are not installed: pip install 'steptool-env[trl]'")
@pytest.mark.filterwarnings("ignore")
def test_its_grpo_is_a_row_of_the_papers_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    import torch

    from steptool_agents import load_algorithm, read_metrics
    from steptool_agents.config import Layer, configure
    from steptool_agents.experiments.grid import rows
    from steptool_agents.runs.folder import trained_weights

    algo = str(Path(__file__).parents[3] / "benchmarks" / "table_parts" / "trl_grpo.py")
    ((_, row),) = rows([algo]).items()
    small = {"demos": 0, "episodes": 16, "group": 4, "minibatches": 2, "epochs": 2, "updates": 9, "budget_steps": 60, "eval_episodes": 4, "report_to": "none"}
    small |= {"temperature": 1.5, "shaper": "steptool"}  # so that the episodes of a group differ
    config = configure([Layer("row", row), Layer("test", {**small, "lr": 1e-3})], lambda name: {}).config
    report = load_algorithm(algo)(config, tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    spent = [line["env_steps"] for line in lines]
    assert spent[-1] == report["env_steps"] >= 60 > ([0, *spent])[-2], "it ends with the batch that spends the budget"
    assert report["updates"] == len(lines) and report["model_tokens"] > 3 * 16 * 20
    assert all(0 <= line["success"] <= 1 for line in lines) and set(report["after"]) == set(report["before"])
    learned, begun = trained_weights(tmp_path / "run"), trained_weights(tmp_path / "run", warm_start=True)
    assert any(not torch.equal(learned[name], begun[name]) for name in begun if not name.startswith("value_head"))
    again = load_algorithm(algo)(config, tmp_path / "run", resume=True)
    assert again["updates"] == report["updates"] and again["after"] == report["after"], "what is trained is not trained again"
