"""The Open Inference Protocol v2: bytes to tensors and back. Pure functions; opens no socket."""
