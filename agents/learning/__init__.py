"""What algorithms share: passes of the model over trajectories, losses, advantages, the critic."""
