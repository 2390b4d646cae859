"""Teachers, and what a student learns from: logits, features, auxiliary heads."""
