"""One training run: its folder, its policies, its loop, its trackers and checkpoints."""
