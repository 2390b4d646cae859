"""The training loop and its parts: checkpoints, losses, freezing, sparsity masks, weight averaging."""
