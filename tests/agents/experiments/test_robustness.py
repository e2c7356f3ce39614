"""What failing tools do to a policy, by hand; the oracle's row; rows that were trained with faults."""

from __future__ import annotations

import pytest
from episodes import episode

from steptool_agents.experiments.grid import METHODS, WITH_FAULTS, Spec, with_faults
from steptool_agents.experiments.robustness import condition_name, curve, failing, label, oracle_verdicts, robustness, robustness_markdown
from steptool_agents.experiments.stored import Played, Seeds, together
from steptool_env.tasks.worlds import Worlds
from steptool_env.types import Task

TASKS = [Task(str(number), "Look.", ("look", "finish"), 5) for number in range(4)]
FINE, ONCE, TWICE = [("", 0.0, 1.0)], [("transient", 0.0, 0.0), ("", 0.0, 1.0)], [("transient", 0.0, 0.0)] * 2 + [("", 0.0, 1.0)]
CONDITIONS = {"": {}, "-faults-30": {"rate": 0.3}}


def played(*steps: tuple[list[tuple[str, float, float]], float]) -> Seeds:
    """Return the episodes of one seed."""
    return {0: Played.of([episode(task, *made, solved=solved) for task, (made, solved) in zip(TASKS, steps, strict=True)])}


CALM = played((FINE, 1.0), (FINE, 1.0), (FINE, 1.0), (FINE, 0.0))


def test_the_measures_by_hand() -> None:
    good = played((FINE, 1.0), (ONCE, 1.0), (TWICE, 1.0), (ONCE, 0.0))
    bad = played((FINE, 1.0), (ONCE, 0.0), (TWICE, 0.0), (ONCE, 0.0))
    rows = robustness({("A", ""): CALM, ("A", "-faults-30"): good, ("B", ""): CALM, ("B", "-faults-30"): bad}, CONDITIONS, "A")
    by = {(row["method"], label(row["faults"])): row for row in rows}
    calm, under, worse = by["A", "0 %"], by["A", "30 %"], by["B", "30 %"]
    assert (calm["mean"], calm["recovered"], calm["wrong"], calm["loss_mean"]) == (0.75, None, None, 0.0)
    # Four calls failed; the tasks of three of them were solved. Of three episodes with such a call, one ended wrong.
    assert (under["mean"], under["recovered"], under["wrong"], under["loss_mean"]) == (0.75, 3 / 4, 1 / 3, 0.0)
    assert (worse["mean"], worse["recovered"], worse["wrong"], worse["loss_mean"]) == (0.25, 0.0, 1.0, 0.5)
    assert worse["lead_mean"] == 0.5
    assert worse["lead_corrected_low"] <= worse["lead_low"] <= 0.5 <= worse["lead_high"] <= worse["lead_corrected_high"]
    assert worse["more_lost_mean"] == -0.5, "the reference loses nothing"
    assert worse["kept_mean"] == pytest.approx(2 / 3), "of the three tasks that both solve without failures, all and one"
    assert under["lead_mean"] is under["more_lost_mean"] is under["kept_mean"] is None
    text = "\n".join(robustness_markdown([*rows, {"method": "oracle", "faults": {"rate": 0.3}, "mean": 1.0, "low": 1.0, "high": 1.0}], "A"))
    assert "| oracle | - | 100.0 (100 to 100) |" in text
    assert "| A | 75 / 33 / 0 |" in text
    assert "| B | +0.0 (+0.0 to +0.0) | +50.0 (" in text
    assert "| B | +66.7 (" in text


def test_a_policy_that_gives_up_or_is_cut_off_gives_no_wrong_answer() -> None:
    cut = {0: Played.of([episode(TASKS[0], *ONCE, truncated=True)])}
    (row,) = robustness({("A", ""): cut}, {"": {}}, "A")
    assert (row["recovered"], row["wrong"], row["cut_off"]) == (0.0, 0.0, 1.0)


def test_where_nothing_is_solved_by_both_nothing_can_be_kept() -> None:
    none = played((FINE, 0.0), (FINE, 0.0), (FINE, 0.0), (FINE, 1.0))
    rows = robustness({("A", ""): CALM, ("A", "-faults-30"): CALM, ("B", ""): none, ("B", "-faults-30"): none}, CONDITIONS, "A")
    assert [row["kept_mean"] for row in rows if row["method"] == "B"] == [None, None]
    assert "| B | - |" in "\n".join(robustness_markdown(rows, "A"))


def test_what_is_paired() -> None:
    other = Played.of([episode(Task(str(number), "Buy.", ("look", "finish"), 5), *FINE, solved=1.0) for number in range(4)])
    one, two = CALM[0], played((FINE, 1.0), (FINE, 0.0), (FINE, 0.0), (FINE, 0.0))[0]
    assert together({0: one, 1: two, 2: one}, {2: two, 1: one}) == [[two, one], [one, two]]
    assert together({0: one}, {1: two}) is None, "no seed in common"
    assert together({0: one}, {0: other}) is None, "other tasks"


def test_names_of_conditions() -> None:
    conditions = [{}, {"rate": 0.125}, {"rate": 0.1, "lasting": 1.0}, {"rate": 0.0, "stale": 0.3}]
    assert [condition_name(one) for one in conditions] == ["", "-faults-12.5", "-faults-10-lasting-100", "-stale-30"]
    assert [label(one) for one in conditions] == ["0 %", "12.5 %", "10 %, lasting 100 %", "stale 30 %"]
    assert [row["faults"] for row in curve([{"faults": one} for one in conditions])] == conditions[:2]
    assert len({condition_name(one) for one in Spec().faults}) == len(Spec().faults)


def test_the_oracle_tries_again_until_its_budget_is_used_up() -> None:
    suite, tasks = Worlds(level=1, split="test"), range(40)
    shares = [sum(oracle_verdicts(suite, tasks, {"rate": rate}, 0, None)) / 40 for rate in (0.0, 0.4, 1.0)]
    assert shares[0] == 1.0 > shares[1] > 0.3 > shares[2] == 0.0
    assert sum(oracle_verdicts(suite, tasks, {"rate": 0.4}, 0, 30)) == 40.0, "with a large budget nothing is lost"
    assert sum(oracle_verdicts(suite, tasks, {"rate": 0.2, "lasting": 1.0}, 0, 30)) < 40.0, "but a tool that stays down is"
    assert sum(oracle_verdicts(suite, tasks, {"rate": 0.0, "stale": 1.0}, 0, None)) == 40.0, "it never asks twice"
    assert failing(suite, {}, 0) is suite


def test_rows_that_are_trained_with_faults() -> None:
    methods = {name: METHODS[name] for name in ("SFT", "GRPO (final)")}
    more = with_faults(methods, [0.0, 0.3])
    assert list(more) == [f"SFT{WITH_FAULTS}", f"GRPO (final){WITH_FAULTS}"]
    config = Spec(methods=more).config(f"GRPO (final){WITH_FAULTS}", 0)
    assert (config.task.fault_rate, config.warm_start.demo_fault_rate, config.task.shaper) == ([0.0, 0.3], [0.0, 0.3], "final")


@pytest.mark.parametrize("field", ["fault_options", "suite_options"])
def test_demonstrations_under_other_faults_are_another_warm_start(field: str) -> None:
    from steptool_agents.experiments.cells import _warm_start_key

    keys = [_warm_start_key(Spec(settings={field: options}).config("SFT", 0)) for options in ({"level": 1}, {"level": 2})]
    assert keys[0] != keys[1]
