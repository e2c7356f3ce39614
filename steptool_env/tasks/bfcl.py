"""Suite ``bfcl``: the multi-turn tasks of the Berkeley Function Calling Leaderboard, judged by its own rules.

A scripted user asks for one to eight things in turn. Each turn is a row of tool calls that ``finish`` ends; the turn is
then judged against the gold calls, and the user's next request is the reply. The task is solved if every turn is valid:

1. where gold calls a tool, the agent called one as well;
2. where gold calls none, anything goes (what it spoils shows at the next turn that is judged);
3. the public state of every simulator equals the one that the gold calls lead to;
4. every response to a gold call of this turn is among the responses to the agent so far, with its multiplicity.

Three things differ from the official harness, because here one step is one call and arguments are checked: a turn may
take 20 calls (there: 20 rounds of any number of calls; more only where gold itself needs more than 10), a call that the
tool's schema rejects is answered with an error and not executed, and a withheld tool cannot be called by guessing its name.
"""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steptool_env.errors import DataError, UnknownName
from steptool_env.tasks.base import Episode, TaskSuite
from steptool_env.tasks.bfcl_simulators import Simulators, catalog, data_folder, invoke, load_module, read_jsonl, signature, start
from steptool_env.tasks.listed import Listed, check_split, in_split
from steptool_env.tools.toolkit import Toolkit
from steptool_env.types import Outcome, Task, ToolCall, ToolResult

__all__ = ["CATEGORIES", "Bfcl", "make_bfcl"]

CATEGORIES = ("base", "miss_func", "miss_param", "long_context")
"""``base``; a tool that comes only after it was missed; a fact that the user gives only when asked; long tool results."""


@dataclass(frozen=True)
class _Script:
    """What stands behind a task; read-only."""

    classes: tuple[str, ...]
    config: Mapping[str, Any]
    long_context: bool
    requests: tuple[str, ...]
    """What the user says, one text a turn."""
    gold: tuple[tuple[ToolCall, ...], ...]
    limits: tuple[int, ...]
    """How many calls each turn may take."""
    withheld: frozenset[str]
    reveal: int
    """The turn from which the withheld tools are on offer."""


@dataclass
class _State:
    """All that changes in an episode."""

    simulators: Simulators
    gold: Simulators
    responses: list[str] = field(default_factory=list)
    """The responses to all calls so far, as the official code records them."""
    verdicts: list[str] = field(default_factory=list)
    """For each turn that has ended: ``""`` if it was valid, or what was wrong."""
    valid: int = 0
    calls: int = 0
    """Calls in the current turn."""
    overrun: bool = False
    """Whether the current turn took more calls than it may."""


class _BfclToolkit(Toolkit):
    """The tools that are on offer in the current turn, with the turn's budget of calls."""

    state: _State

    def __init__(self, script: _Script) -> None:
        simulators, gold = (start(script.classes, script.config, script.long_context) for _ in range(2))
        super().__init__((), _State(simulators, gold))
        self.script = script
        self.offer()

    def offer(self) -> None:
        """Set the tools to those of the current turn."""
        withheld = self.script.withheld if len(self.state.verdicts) < self.script.reveal else frozenset[str]()
        self._tools, self._schemas = catalog(self.script.classes, withheld)

    def restore(self, state: Any) -> None:
        super().restore(state)
        self.offer()

    def answer(self, call: ToolCall) -> ToolResult:
        state = self.state
        if call.name == "finish":
            return super().answer(call)
        limit = self.script.limits[len(state.verdicts)]
        if state.calls >= limit:
            state.overrun = True
            return ToolResult(f"Error: the {limit} calls of this turn are used up; nothing but finish is executed.", "over_budget")
        state.calls += 1
        return super().answer(call)


def make_bfcl(category: str | list[str] | tuple[str, ...] = "base", split: str = "train") -> TaskSuite:
    """Return suite ``bfcl`` with some of its categories.

    Args:
        category: A multi-turn category (``CATEGORIES``), or one or several single-turn ones (``bfcl_single.SINGLE_TURN``).
        split: ``"train"``, ``"test"`` or ``"all"``.

    Raises:
        UnknownName: There is no such category or split; a multi-turn category cannot be one of several.
        InvalidArgument: No category is named.
    """
    from steptool_env.tasks.bfcl_single import SINGLE_TURN, BfclSingle

    if isinstance(category, list | tuple) or category in SINGLE_TURN:
        return BfclSingle(category, split)
    if category not in CATEGORIES:
        raise UnknownName("bfcl category", category, (*CATEGORIES, *SINGLE_TURN))
    return Bfcl(category, split)


class Bfcl(Listed):
    """The 200 tasks of one multi-turn category of the Berkeley Function Calling Leaderboard.

    The tasks of the four categories with the same number are variants of one task. So the split goes by the number,
    whatever the category: every fifth task, from 0, is ``"test"`` (40), the others are ``"train"`` (160).

    Args:
        category: ``"base"``, ``"miss_func"``, ``"miss_param"`` or ``"long_context"``.
        split: ``"train"``, ``"test"`` or ``"all"``.

    Raises:
        MissingExtra: The package ``bfcl-eval`` is not installed; names the command.
        UnknownName: There is no such category or split.
        DataError: A data file of the package has a broken line.
    """

    name: str = "bfcl"
    has_solution: bool = True
    has_progress: bool = True
    has_turns: bool = True

    def __init__(self, category: str = "base", split: str = "train") -> None:
        if category not in CATEGORIES:
            raise UnknownName("bfcl category", category, CATEGORIES)
        check_split(self.name, split)
        self.category, self.split = category, split
        super().__init__(task for number, task in _load(category) if in_split(number, split))

    def __reduce__(self) -> tuple[type[Bfcl], tuple[str, str]]:
        return type(self), (self.category, self.split)

    def toolkit(self, task: Task) -> Toolkit:
        return _BfclToolkit(task.data)

    def after_finish(self, task: Task, episode: Episode) -> str | None:
        """Judge the turn and return the user's next request, or ``None`` after the last turn."""
        script, toolkit = task.data, _toolkit_of(episode)
        state = toolkit.state
        verdict = _judge(script, state)
        state.verdicts.append(verdict)
        state.valid += not verdict
        state.calls, state.overrun = 0, False
        turn = len(state.verdicts)
        if turn == len(script.requests):
            return None
        toolkit.offer()
        request: str = script.requests[turn]
        return request

    def grade(self, task: Task, episode: Episode) -> Outcome:
        """1.0 if all turns are over and each was valid, else 0.0; the reason names the first turn that was not."""
        verdicts, turns = _toolkit_of(episode).state.verdicts, len(task.data.requests)
        for turn, verdict in enumerate(verdicts, 1):
            if verdict:
                return Outcome(0.0, f"turn {turn} of {turns}: {verdict}")
        if len(verdicts) < turns:
            return Outcome(0.0, f"turn {len(verdicts) + 1} of {turns}: the episode was cut off before the turn ended")
        return Outcome(1.0, f"all {turns} turns are valid")

    def progress(self, task: Task, episode: Episode) -> float:
        """Valid turns divided by all turns."""
        return _toolkit_of(episode).state.valid / len(task.data.requests)

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        """Return the gold calls that are still to be made, with ``finish`` at the end of every turn.

        Gold calls that succeeded in this turn are left out. That solves the task if the other calls of the
        agent did no harm; harm done by them is not mended. ``[]`` once a turn was invalid, or has too few calls left.
        """
        script, state = task.data, _toolkit_of(episode).state
        turn = len(state.verdicts)
        if state.valid < turn or state.overrun or turn == len(script.requests):
            return []
        rest = list(script.gold[turn])
        for transition in reversed(episode):
            call = transition.action
            if transition.result.error or not isinstance(call, ToolCall):
                continue
            if call.name == "finish":
                break
            _remove(rest, call)
        if state.calls + len(rest) > script.limits[turn]:
            return []
        calls = []
        for gold in (rest, *script.gold[turn + 1 :]):
            calls += [ToolCall(call.name, copy.deepcopy(call.arguments)) for call in gold]
            calls.append(ToolCall("finish", {"answer": "Done."}))
        return calls


def _toolkit_of(episode: Episode) -> _BfclToolkit:
    assert isinstance(episode.toolkit, _BfclToolkit)
    return episode.toolkit


def _remove(calls: list[ToolCall], call: ToolCall) -> None:
    """Remove the first call that equals this one, if there is one."""
    for index, candidate in enumerate(calls):
        if candidate.name == call.name and candidate.arguments == call.arguments:
            del calls[index]
            return


def _judge(script: _Script, state: _State) -> str:
    """Make the gold calls of the turn that ends, and return ``""`` if the turn is valid, or what was wrong."""
    turn = len(state.verdicts)
    expected = [invoke(state.gold, call) for call in script.gold[turn]]
    if state.overrun:
        return f"more than {script.limits[turn]} calls"
    if not expected:
        return ""
    if not state.calls:
        return "no tool was called"
    checker = load_module("eval_checker.multi_turn_eval.multi_turn_checker")
    for class_name in script.classes:
        if not _same(checker, class_name, state):
            return f"the state of {class_name} is not the expected one"
    if not checker.response_checker(state.responses, expected, turn)["valid"]:
        return "some expected results were not obtained"
    return ""


def _same(checker: Any, class_name: str, state: _State) -> bool:
    try:
        return bool(checker.state_checker({class_name: state.simulators[class_name]}, {class_name: state.gold[class_name]})["valid"])
    except (AttributeError, RecursionError):  # a folder copied into itself has no end
        return False


# -------------------------------------------------------------------- the data
@functools.lru_cache(maxsize=len(CATEGORIES))
def _load(category: str) -> tuple[tuple[int, Task], ...]:
    """Read a category, once per process: the number and the task of each entry."""
    folder, file = data_folder(), f"BFCL_v4_multi_turn_{category}.json"
    entries, answers = read_jsonl(folder / file), read_jsonl(folder / "possible_answer" / file)
    if len(entries) != len(answers):
        raise DataError(folder / file, len(entries), f"{len(entries)} tasks, but {len(answers)} answers")
    tasks = []
    for line, (entry, answer) in enumerate(zip(entries, answers, strict=True), 1):
        try:
            if entry["id"] != answer["id"]:
                raise ValueError(f"the answer in the same line is that of {answer['id']!r}")
            tasks.append((int(entry["id"].rsplit("_", 1)[1]), _task(category, entry, answer["ground_truth"])))
        except (AttributeError, IndexError, KeyError, SyntaxError, TypeError, ValueError) as fault:
            raise DataError(folder / file, line, f"{type(fault).__name__}: {fault}") from fault
    return tuple(tasks)


def _task(category: str, entry: Mapping[str, Any], answers: list[list[str]]) -> Task:
    prompts = load_module("constants.default_prompts")
    classes = tuple(entry["involved_classes"])
    owners = {name: class_name for class_name in classes for name in catalog((class_name,))[0]}
    gold = tuple(tuple(_parse(text, owners) for text in turn) for turn in answers)
    requests = tuple(turn[0]["content"] if turn else prompts.DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_FC for turn in entry["question"])
    if len(requests) != len(gold):
        raise ValueError(f"{len(requests)} turns, but {len(gold)} in the answer")
    (reveal, missed), *_ = [(int(turn), names) for turn, names in entry.get("missed_function", {}).items()] or [(0, [])]
    # One official answer calls its withheld tool before it is revealed; a tool that gold needs cannot be withheld.
    withheld = frozenset(missed) - {call.name for turn in gold[:reveal] for call in turn}
    limits = tuple(max(prompts.MAXIMUM_STEP_LIMIT, 2 * len(turn)) for turn in gold)
    script = _Script(classes, entry["initial_config"], category == "long_context", requests, gold, limits, withheld, reveal)
    tags: dict[str, str | int] = {"category": category, "turns": len(requests)}
    return Task(entry["id"], requests[0], tuple(catalog(classes, withheld)[0]), sum(limits) + len(limits), script, tags)


def _parse(text: str, owners: Mapping[str, str]) -> ToolCall:
    """Read a gold call such as ``cd(folder='a')``; what is passed by position gets its name from the signature."""
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"not a call of one function: {text!r}")
    name = call.func.id
    positional = [ast.literal_eval(value) for value in call.args]
    named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return ToolCall(name, dict(signature(owners[name], name).bind(*positional, **named).arguments))
