"""What `make bench-...` runs. Each program shows these messages and the packages' own (toolchain.cli.console)."""

import logging

logger = logging.getLogger(__name__)
