"""A training run: its folder, policies, loop, trackers and checkpoints."""
