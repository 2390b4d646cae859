"""The Python file that builds a network which no catalogue has under a name: somebody put other layers into it.

Knows how such a file is written; what is replaced is found by fit.py.
"""

from toolchain.init.fit import Fit

FUNCTION = "build"


def write_network(source: str, fit: Fit, checkpoint: str) -> str:
    """The text of a module whose `build` returns `source`, `torchvision:NAME` or `timm:NAME`, with the checkpoint's
    layers in it."""
    zoo, _, name = source.partition(":")
    made = f"torchvision.models.{name}(weights=None, num_classes={fit.classes}{_training_heads(name)})"
    if zoo == "timm":
        made = f'timm.create_model("{name}", pretrained=False, num_classes={fit.classes})'
    changes = [f'    net.set_submodule("{change.name}", {change.code})' for change in fit.changes]
    unsure = [f"    # supposed: {text}" for text in fit.supposed]
    ordered = ["from collections import OrderedDict", ""] if any("OrderedDict" in line for line in changes) else []
    lines = [
        f'"""The network of {checkpoint}: {source} with the layers that the file has. By `toolchain init`; yours to',
        'change."""',
        "",
        *ordered,
        f"import {zoo}",
        "from torch import nn",
        "",
        "",
        f"def {FUNCTION}() -> nn.Module:",
        f"    net = {made}",
        *unsure,
        *changes,
        "    return net",
    ]
    return "\n".join(lines) + "\n"


def _training_heads(name: str) -> str:
    return ", aux_logits=False, init_weights=False" if name in ("inception_v3", "googlenet") else ""
