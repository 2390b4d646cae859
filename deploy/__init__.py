"""Bundle -> image -> servers, and whether it may go."""

import logging

logging.getLogger(__name__).addHandler(logging.NullHandler())
