"""The order of folders and modules in both packages: each imports only those above it. The one list; docs/design.md is checked against it."""

from __future__ import annotations

__all__ = ["AGENTS", "ENVIRONMENT", "FRONT"]

ENVIRONMENT: list[set[str]] = [
    {"jsontext", "errors", "foreign", "sampling"},
    {"types"},
    {"spaces", "actions", "rendering", "files", "reference"},
    {"words"},
    {"html", "sealed"},
    {"tools"},
    {"formats"},
    {"tasks"},
    {"rewards"},
    {"env"},
    {"scripted", "wrappers"},
    {"audit", "monte_carlo"},
    {"adversarial"},
    {"testing"},
]

AGENTS: list[list[str]] = [
    ["trajectory"],
    ["credit"],
    ["config"],
    ["parallel"],
    ["models"],
    ["chat"],
    ["generation"],
    ["servers"],
    ["policies"],
    ["rollouts"],
    ["show"],
    ["learning"],
    ["runs"],
    ["algorithms"],
    ["experiments"],
    ["interop"],
    ["cli"],
]

FRONT = {"__init__", "__main__"}
"""What users import, and what starts the command; these stand outside of the order."""
