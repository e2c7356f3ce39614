"""Rollouts: episodes in parallel, demonstrations, evaluation, search, statistics."""
