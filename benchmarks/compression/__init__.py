"""What compression brings: distillation runs, checkpoints, interruption, several processes, other networks."""
