"""The paper's reward: aggregation by hand and on the released annotations, the rules with their flaws."""

from __future__ import annotations

import ast
import csv
import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import RELEASED

from steptool_env import Malformed, Outcome, Task, ToolCall, ToolResult, Transition
from steptool_env.errors import InvalidArgument
from steptool_env.rewards import Judgment, PaperRules, aggregate, label
from steptool_env.rewards.paper import STATUS
from steptool_env.rewards.paper_rules import overlap

released = pytest.mark.skipif(not RELEASED.is_dir(), reason=f"the released data of the paper are not in {RELEASED} (set STEPTOOL_DATA)")
TASK = Task("t", "Do it.", ("f", "finish"), 9)


# ---------------------------------------------------------------- aggregation
FIXTURE = [  # (judgments as (succeeded, contributions, status), rewards of the calls, of the answer), worked out by hand
    ([((1,), (5,), "Solved")], ["1"], "1"),
    ([((0,), (0,), "Unsolved")], ["0"], "0"),
    ([((), (), "Unsure")], [], "1/2"),
    # call 1: ½·⅔ + ½·(5+2+0)/15; call 2: ½·⅓ + ½·(4+4+1)/15; answer: (1 + ½ + 0)/3
    (
        [((1, 0), (5, 4), "Solved"), ((1, 0), (2, 4), "Unsure"), ((0, 1), (0, 1), "Unsolved")],
        ["17/30", "7/15"],
        "1/2",
    ),
    ([((1, 1, 0), (3, 0, 1), "Solved"), ((1, 0, 0), (4, 1, 0), "Solved")], ["17/20", "3/10", "1/20"], "1"),
]


@pytest.mark.parametrize(("said", "calls", "answer"), FIXTURE)
def test_aggregation_by_hand(said: list[tuple[tuple[int, ...], tuple[int, ...], str]], calls: list[str], answer: str) -> None:
    pairs, solved = aggregate([Judgment(*one) for one in said])
    assert [sc + con for sc, con in pairs] == pytest.approx([float(Fraction(one)) for one in calls])
    assert solved == pytest.approx(float(Fraction(answer)))


ANNOTATED = {  # by hand from the five annotations: r_t = mean of ½·SC + Con/10 over three judgments
    "32980": (["1", "1", "14/15", "13/15"], "1"),
    "70195": (["1", "13/15"], "1"),
    "44426": (["1"], "5/6"),
    "34459": (["1", "1"], "1"),
    "56543": (["2/15", "13/30"], "1/3"),
}


@released
def test_the_five_released_annotations() -> None:
    items = json.loads((RELEASED / "reward_annotation.json").read_text(encoding="utf-8"))
    assert set(items) == set(ANNOTATED)
    for name, item in items.items():
        process, status = item["process_reward"], item["is_solved"]
        said = [Judgment(tuple(process[k]["succeed_tool_calling"]), tuple(process[k]["contributions"]), status[k].split(".")[-1]) for k in process]
        pairs, solved = aggregate(said)
        calls, answer = ANNOTATED[name]
        assert len(pairs) == len(item["answer_steps"])
        assert [sc + con for sc, con in pairs] == pytest.approx([float(Fraction(one)) for one in calls]), name
        assert solved == pytest.approx(float(Fraction(answer))), name


@released
@pytest.mark.parametrize("name", ["toolllama", "qwen2", "llama3-1"])
def test_the_released_rewards_lie_on_the_grid_that_the_formula_makes(name: str) -> None:
    """Three judgments: rewards of calls are multiples of 1/30, of answers of 1/6, all in [0, 1]."""
    csv.field_size_limit(10**9)
    with open(RELEASED / f"step_grained_{name}.csv", newline="", encoding="utf-8") as file:
        rows = [ast.literal_eval(row["reward"]) for row in csv.DictReader(file, delimiter="\t")]
    assert len(rows) == 10
    for rewards in rows:
        for grid, values in ((30, rewards[:-1]), (6, rewards[-1:])):
            assert all(0 <= value <= 1 and abs(grid * value - round(grid * value)) < 1e-3 for value in values)


judgments = st.integers(0, 5).flatmap(
    lambda n: st.lists(
        st.builds(
            Judgment,
            st.tuples(*[st.sampled_from((0.0, 1.0))] * n),
            st.tuples(*[st.integers(0, 5).map(float)] * n),
            st.sampled_from(sorted(STATUS)),
        ),
        min_size=1,
        max_size=4,
    )
)


@given(judgments)
def test_rewards_lie_between_0_and_1_and_the_order_of_judges_does_not_matter(said: list[Judgment]) -> None:
    pairs, solved = aggregate(said)
    assert all(0 <= sc <= 0.5 and 0 <= con <= 0.5 + 1e-12 for sc, con in pairs)
    assert 0 <= solved <= 1
    again, its = aggregate(said[::-1])
    assert its == pytest.approx(solved)
    assert [sc + con for sc, con in again] == pytest.approx([sc + con for sc, con in pairs])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Judgment((1,), (), "Solved"), "1 successes and 0 contributions"),
        (lambda: Judgment((0.5,), (1,), "Solved"), "0 or 1"),
        (lambda: Judgment((1,), (6,), "Solved"), "between 0 and 5"),
        (lambda: Judgment((1,), (float("nan"),), "Solved"), "between 0 and 5"),
        (lambda: Judgment((1,), (5,), "solved"), "got 'solved'"),
        (lambda: aggregate([]), "no judgment"),
        (lambda: aggregate([Judgment((1,), (5,), "Solved"), Judgment((), (), "Solved")]), r"\[1, 0\]"),
    ],
)
def test_impossible_judgments(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgument, match=message):
        make()


# ---------------------------------------------------------------- the rules
@pytest.mark.parametrize(
    ("observation", "answer", "share"),
    [("", "abc", 0.0), ("abc", "", 0.0), ("abcd", "abcd", 1.0), ("abcd", "xaybz", 0.5), ("abcb", "bcab", 0.75), ("aaaa", "aa", 0.5)],
)
def test_overlap_by_hand(observation: str, answer: str, share: float) -> None:
    assert overlap(observation, answer) == share


@given(st.text("abc", max_size=30), st.text("abcd", max_size=30))
def test_overlap_agrees_with_the_table_of_dynamic_programming(observation: str, answer: str) -> None:
    row = [0] * (len(answer) + 1)
    for a in observation:
        diagonal = 0
        for j, b in enumerate(answer, 1):
            diagonal, row[j] = row[j], diagonal + 1 if a == b else max(row[j], row[j - 1])
    assert overlap(observation, answer) == (row[-1] / len(observation) if observation else 0.0)


def test_the_rules_by_hand() -> None:
    def step(content: str, error: str = "", action=None, last: bool = False) -> Transition:  # type: ignore[no-untyped-def]
        return Transition(TASK, 0, action or ToolCall("f"), ToolResult(content, error), last, False, Outcome(0.5) if last else None)

    episode = [
        step("phone 5512"),  # 4 of 10 characters reappear: used
        step("nothing of that kind"),  # its letters hardly do: not used, but it succeeded
        step("Error: wrong id 5512", "tool_failed"),  # 4 of 20: not used, failed
        step("Error: no call", "malformed", Malformed("hm", "no call")),
        step("ok", action=ToolCall("finish", {"answer": "5512"}), last=True),
    ]
    (steps,) = label(PaperRules(), [episode])
    assert steps == [
        {"sc": 0.5, "con": 0.5, "solved": 0.0},
        {"sc": 0.5, "con": 0.0, "solved": 0.0},
        {"sc": 0.0, "con": 0.0, "solved": 0.0},
        {"sc": 0.0, "con": 0.0, "solved": 0.0},
        {"sc": 0.0, "con": 0.0, "solved": 0.5},
    ]
    # at the step, only success and verdict are known
    assert [PaperRules()(episode[: t + 1]) for t in (0, 4)] == [{"sc": 0.5, "con": 0.0, "solved": 0.0}, {"sc": 0.0, "con": 0.0, "solved": 0.5}]


def test_the_rules_measure_length_not_use() -> None:
    """The flaw that makes the rule useless for short results and generous for long answers."""
    assert overlap("The tower is 324 m high.", "Die Stadt hat im Sommer eine hohe Zahl an Gästen, die mit dem Schiff anreisen.") >= 0.3
    assert overlap('{"name": "Ada", "phone": "5512", "store": "S11", "card": "D20"}', "5512") < 0.3
