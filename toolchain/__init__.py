"""Trained model in, bundle out. The only place that knows torch."""

__version__ = "0.1.0"
