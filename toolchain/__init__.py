"""Trained image classifier in, certified container on an edge server out.

The making: the only place that knows torch.
"""

import logging

__version__ = "0.1.0"
logging.getLogger(__name__).addHandler(logging.NullHandler())
