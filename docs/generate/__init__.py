"""Writes docs/reference from the code: `make docs-reference`. Knows no name of the code that it can look up."""
