"""Trained image classifier in, certified container on an edge server out.

The making: the only place that knows torch.
"""

__version__ = "0.1.0"
