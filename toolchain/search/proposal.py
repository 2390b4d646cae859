"""One point of the space: what is done to the model, as a value.

Knows nothing of recipes (compose.py makes one of it) nor of how points are chosen (space.py, Optuna).
"""

from hashlib import sha256
from typing import Literal

import msgspec

from toolchain.records.storage import encode_record

KEY_LETTERS = 8


class SearchProposal(msgspec.Struct, frozen=True):
    """channel_ratio 0 and blocks 0: nothing is cut. The fields are those of a recipe's [search]."""

    channel_ratio: float = 0.0
    importance: str = "l2"
    round_to: int = 8
    residual: bool = True
    blocks: int = 0
    input_scale: float = 1.0
    quantization: Literal["ptq", "qat", "none"] = "ptq"
    training: Literal["finetune", "distill"] = "distill"
    lr: float = 0.01

    @property
    def is_cut(self) -> bool:
        """Whether it must be trained for what was taken from it."""
        return bool(self.channel_ratio or self.blocks or self.input_scale < 1)

    @property
    def key(self) -> str:
        """The same for points that lead to the same recipe."""
        plain = self
        if not self.channel_ratio:
            plain = msgspec.structs.replace(plain, importance="", round_to=1, residual=True)
        if self.quantization == "qat" and not self.is_cut:
            plain = msgspec.structs.replace(plain, lr=0.0)  # trained at the rate of its quantization alone
        return sha256(encode_record(plain)).hexdigest()[:KEY_LETTERS]

    def describe(self) -> str:
        """For a table: `channels -35 % (l2, by 8), 1 block less, distill, qat`."""
        parts = []
        if self.channel_ratio:
            inner = "" if self.residual else ", inner"
            parts.append(f"channels -{100 * self.channel_ratio:.0f} % ({self.importance}, by {self.round_to}{inner})")
        if self.blocks:
            parts.append(f"{self.blocks} block{'s' if self.blocks > 1 else ''} less")
        if self.input_scale < 1:
            parts.append(f"input x {self.input_scale:g}")
        rate = f" at {self.lr:.3g}" if self.is_cut or self.quantization != "qat" else ""
        parts.append(f"{self.training}{rate}")
        if self.quantization != "none":
            parts.append(self.quantization)
        return ", ".join(parts)
