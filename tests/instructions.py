"""Instruction sets that a test needs, asked of the product's own probe, so that a cap (ONEDNN_MAX_CPU_ISA) counts too.

ONNX Runtime heeds no cap: what is skipped under one for its sake would pass there.
"""

import pytest

from deploy.runtime.device.probe import cpu_isa, cpu_model


def has(*names: str) -> bool:
    """Whether engines may use one of them here."""
    return any(name in cpu_isa() for name in names)


def needs(*names: str, why: str) -> pytest.MarkDecorator:
    """Skips where this CPU has none of them, and says which was missing for what."""
    return pytest.mark.skipif(not has(*names), reason=f"{cpu_model()} has no {' nor '.join(names)}: {why}")
