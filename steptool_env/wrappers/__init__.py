"""Wrappers over StepTool-v0."""
