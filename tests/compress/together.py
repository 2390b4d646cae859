"""Run under torchrun by test_distributed.py: trains a tiny model in each process and saves its results.

torchrun --standalone --nproc-per-node=2 -m tests.compress.together FOLDER KIND
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.compress.nets import context, tiny
from toolchain.compress.distributed import distributed_context, leave_process_group, report_error_once
from toolchain.compress.serialization import weights_digest
from toolchain.compress.step import CompressedModel
from toolchain.compress.steps.finetune import Finetune
from toolchain.errors import ToolchainError

PLAN = Finetune(
    epochs=3,
    batch_size=15,
    lr=0.05,
    freeze=("stem",),
    unfreeze={"1": ("stem",)},
    ema_decay=0.9,
    augment=("crop", "mixup"),
)


class Plain(nn.Module):
    """A model without BatchNorm: processes that share a batch then compute what one computes, but for rounding."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        whole, self.kind, self.seen = tiny(), kind, 0
        self.stem, self.body, self.head = whole.stem[0], whole.body[0], whole.head

    def forward(self, x: Tensor) -> Tensor:
        self.seen += self.training
        answer: Tensor = self.head(torch.relu(self.body(torch.relu(self.stem(x)))).mean((2, 3)))
        fails = self.seen > 9 and os.environ.get("RANK") == "1"
        if fails and self.kind == "error":
            raise ToolchainError("no luck in the second process")
        if fails and self.kind == "killed":
            os.kill(os.getpid(), 9)
        return answer * float("nan") if fails and self.kind == "nan" else answer


def net_of(kind: str) -> nn.Module:
    return tiny() if kind == "norms" else Plain(kind)


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    try:
        with report_error_once() as world:
            after = PLAN.apply(CompressedModel(net_of(kind)), context(folder / f"work-{world.rank}"))
            torch.save(after.module.state_dict(), folder / f"{world.rank}.pt")
            left = {"digest": weights_digest(after.module), "history": after.history}
            (folder / f"{world.rank}.json").write_text(json.dumps(left))
            leave_process_group(world)
            assert distributed_context().size == 1
    except ToolchainError as error:
        print(f"toolchain: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
