"""A scripted policy for ``worlds`` that sees nothing but the numbers of ``StepToolDiscrete-v0``.

It knows the domains, as a policy that has learnt them would: which first letter belongs to which kind of entity, and
which code to which tool. Everything about the task at hand it takes from the observation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.tools import change_tool, lookup_tool
from steptool_env.wrappers.discrete import FEATURES, tool_code

NAMES = ("shop", "travel", "clinic")
F = {name: number for number, name in enumerate(FEATURES)}
READS = {ord(entity.prefix[0].lower()) - 96: lookup_tool(kind) for domain in map(DOMAINS.__getitem__, NAMES) for kind, entity in domain.entities.items()}
CHANGES = {
    ord(domain.entities[change.entity].prefix[0].lower()) - 96: change_tool(change) for domain in map(DOMAINS.__getitem__, NAMES) for change in domain.changes
}


def act(observation: NDArray[np.float32]) -> int:
    """Return the best action: follow the instruction from right to left, at its end act or answer."""
    rows = observation.reshape(-1, len(FEATURES))
    valid = rows[:, F["valid"]] > 0
    latest = valid & (rows[:, F["from the last result"]] > 0) & (rows[:, F["role mentioned"]] > 0)
    if not rows[valid, F["results"]].any():
        latest = valid & (rows[:, F["from the user"]] > 0)  # nothing has been looked up: the id that the user names
        focus = latest
    elif (nearest := latest & (rows[:, F["nearest role"]] > 0)).any():
        focus = nearest
    else:
        focus = latest & (rows[:, F["role right of pointer"]] > 0)  # only the confirmation is asked for further right
    letters = (rows[:, F["initial 0"] : F["initial 4"] + 1] > 0) @ (1 << np.arange(5))
    identifier = focus & (rows[:, F["letters"]] > 0) & (rows[:, F["digits"]] > 0)
    if identifier.any():
        letter = int(letters[np.argmax(identifier)])
        near = rows[:, F["verb near role"]] >= 1 - 2 / 8
        for tool, further in ((CHANGES.get(letter), near), (READS.get(letter), True)):
            chosen = (rows[:, F["choice"]] == 0) | (rows[:, F["nearest choice"]] > 0)  # which field: the one that is asked for next
            if tool is not None and (hits := identifier & is_tool(rows, tool) & further & chosen).any():
                return int(np.argmax(hits))
    return int(np.argmax(focus & (rows[:, F["finish"]] > 0) & (rows[:, F["choice"]] == 0)))


def is_tool(rows: NDArray[np.float32], name: str) -> NDArray[np.bool_]:
    """Return which rows are calls of this tool."""
    return np.asarray((rows[:, F["tool 0"] : F["tool 0"] + 16] == tool_code(name)).all(1))
