"""The training loop, and what keeps it right: checkpoints, losses, masks, weight averages."""
