"""Teachers, and what a student learns from them: logits, features, auxiliary modules."""
