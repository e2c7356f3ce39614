"""A scripted policy for ``worlds`` level 1, all families, that sees nothing but the compact numbers of ``StepToolDiscrete-v0`` and the mask.

It knows the domains, as a policy that has learnt them would: which letters identifiers of a type begin with, and which code
a tool has. Everything about the task at hand it takes from the observation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.tools import change_tool, list_tool, lookup_tool
from steptool_env.wrappers.compact import COLUMNS, bag, compact_features, prefix_code
from steptool_env.wrappers.composed import ANSWERS
from steptool_env.wrappers.features import tool_code

ENDS, WAYS = len(COLUMNS) + len(ANSWERS), len(COLUMNS) + 2
BARRED = [bag([f"status={word}"], 32, marks=2) for word in ("suspended", "expired", "disputed")]


def _code(numbers: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(map(float, numbers))


READS = {(prefix_code(entity.prefix.lower()), _code(tool_code(lookup_tool(kind)))) for domain in DOMAINS.values() for kind, entity in domain.entities.items()}
ACTS = {
    (prefix_code(domain.entities[act.entity].prefix.lower()), _code(tool_code(change_tool(act))))
    for domain in DOMAINS.values()
    for act in (*domain.changes, *domain.links)
}
LISTS = {_code(tool_code(list_tool(domain, kind))) for domain in DOMAINS.values() for kind in domain.entities}
LINKS = {_code(tool_code(change_tool(link))) for domain in DOMAINS.values() for link in domain.links}


class ScriptedCompact:
    """Plays an environment with so many tools."""

    def __init__(self, tools: int) -> None:
        self.tools = tools
        self.places = {name: place for place, name in enumerate(compact_features(tools))}

    def act(self, observation: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
        """Return the best action."""
        numbers = _code(observation)
        see = {name: numbers[place] for name, place in self.places.items()}
        states = tuple(see[f"latest result: state {bucket}"] for bucket in range(32))
        words = tuple(see[f"the user's words: {bucket}"] for bucket in range(64))

        def says(*texts: str) -> bool:
            return all(words[bag([text], 64).index(1.0)] for text in texts)

        if see["listed: exists"]:
            pages = [2 * ENDS + tool * WAYS + WAYS - 1 for tool in range(self.tools)]
            again = [page for page in pages if mask[page]]
            return again[0] if see["more pages"] and again else COLUMNS.index(COLUMNS[0]) + len(COLUMNS) + ANSWERS.index("listed")
        passed = ENDS + COLUMNS.index("passed on last")
        barred = any(all(state >= want for state, want in zip(states, wanted, strict=True)) for wanted in BARRED)
        if see["passed on last: exists"] and says("give", "up") and (see["latest result 0: empty"] or barred):
            return passed
        for column in ("latest result 0", *(f"user {number}" for number in range(4))):
            if see[f"{column}: identifier"] and not see[f"{column}: passed on before"] and (column != "latest result 0" or see[f"{column}: leads on"]):
                tool = self._tool(see, column, careful=says("give", "up"))
                if tool is not None and mask[action := 2 * ENDS + tool * WAYS + COLUMNS.index(column)]:
                    return action
        reckoned = len(COLUMNS) + ANSWERS.index("reckoned")
        sums = says("differ", "much") or says("days", "date") or says("days", "between") or says("number", "report") or says("convert")
        return reckoned if mask[reckoned] and sums and not says("commas", "separated") else len(COLUMNS) + ANSWERS.index("asked")

    def _tool(self, see: dict[str, float], column: str, careful: bool) -> int | None:
        """Return the tool that the value goes to: one that acts if the user names it, one that lists by it, one that reads it.

        Careful is who reads first whether the act is possible.
        """
        prefix = tuple(see[f"{column}: prefix {bit}"] for bit in range(8))
        best: tuple[float, int | None] = (0.0, None)
        for tool in range(self.tools):
            if see[f"tool {tool}, {column}: call"] != 1.0:
                continue
            code = tuple(see[f"tool {tool}: code {bit}"] for bit in range(16))
            role, named = see[f"tool {tool}, {column}: role"], see[f"tool {tool}: verb named"]
            score = 0.0
            if code in LINKS and named and role >= (0.2 if column == "latest result 0" else 0.7):
                score = 3.0
            elif (prefix, code) in ACTS and named and code not in LINKS:
                score = 0.5 if careful else 2.5
            elif (prefix, code) in READS and see[f"tool {tool}, {column}: leads"] and column != "latest result 0":
                score = 2.2  # the user names a field of it
            elif code in LISTS and see[f"tool {tool}: object named"] and role >= (0.2 if column == "latest result 0" else 0.8):
                score = 2.0
            elif (prefix, code) in READS:
                score = 1.0
            if score > best[0]:
                best = (score, tool)
        return best[1]
