"""Playing: episodes side by side, evaluation, search, statistics."""
