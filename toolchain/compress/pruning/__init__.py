"""Structured and unstructured pruning: what is removed together, what matters least, and the removal."""
