"""Policies: local and served models, chat endpoints, demonstrators, and policies without a model."""
