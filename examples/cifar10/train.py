"""Train the example's ResNet-20 (or another net) in plain PyTorch: what a user has before using the toolchain.

    python examples/cifar10/train.py --out examples/cifar10/resnet20.safetensors
    python examples/cifar10/train.py --net vgg11 --epochs 8 --small-epochs 3 --lr 0.1 --out .toolchain/vgg11.safetensors

Uses only the train split (48,000 of the 50,000 training images: the toolchain keeps 1,000 for validation and 1,000 for
the certificate). The first epochs run on 24x24 crops, which cost half as much (progressive resizing). The test images
are used once, at the end. An interrupted run resumes after the last finished epoch.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from toolchain.cli.console import log_to_stderr
from toolchain.data import load
from toolchain.models.cifar import NETWORKS

MEAN = torch.tensor((0.4914, 0.4822, 0.4465)).view(1, 3, 1, 1) * 255
STD = torch.tensor((0.2470, 0.2435, 0.2616)).view(1, 3, 1, 1) * 255


def augmented(padded: Tensor, indices: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Random crops of `size` pixels from images padded by 4, half of them mirrored: uint8 NHWC -> float NCHW."""
    count, room = len(indices), padded.shape[1] - size + 1
    line = torch.arange(size)
    rows = torch.randint(room, (count, 1), generator=random) + line
    columns = torch.randint(room, (count, 1), generator=random) + line
    mirrored = torch.rand((count, 1), generator=random) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return normalized(padded[indices[:, None, None], rows[:, :, None], columns[:, None, :]])


def normalized(images: Tensor) -> Tensor:
    return ((images.permute(0, 3, 1, 2).float() - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def accuracy(model: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.inference_mode():
        right = sum(
            int((model(normalized(x)).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return right / len(labels)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--net", choices=NETWORKS, default="resnet20")
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--small-epochs", type=int, default=16, help="epochs on 24x24 crops, the first ones")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=20)
    return parser.parse_args()


def optimizer_of(model: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
    """Nesterov SGD; norms and biases do not decay."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)


def save_whole(state: dict[str, object], path: Path) -> None:
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main() -> None:
    log_to_stderr()
    options = parsed()
    torch.manual_seed(options.seed)
    data = load("cifar10")
    train, validate, test = (data.split(name) for name in ("train", "validate", "test"))
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    padded = torch.from_numpy(np.pad(train.images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect"))
    model = NETWORKS[options.net](10).to(memory_format=torch.channels_last)
    optimizer, steps = optimizer_of(model, options.lr), len(images) // options.batch
    total, warmup = options.epochs * steps, 2 * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (total - step) / (total - warmup))
    )
    first, saved = 0, options.out.with_suffix(".partial.pt")
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        for name, part in (("model", model), ("optimizer", optimizer), ("schedule", schedule)):
            part.load_state_dict(state[name])
        first = state["epoch"]
    for epoch in range(first, options.epochs):
        random = torch.Generator().manual_seed(options.seed * 1000 + epoch)
        size, began, losses = 24 if epoch < options.small_epochs else 32, time.monotonic(), 0.0
        model.train()
        for indices in torch.randperm(len(images), generator=random)[: steps * options.batch].split(options.batch):
            loss = functional.cross_entropy(
                model(augmented(padded, indices, size, random)), labels[indices], label_smoothing=0.05
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += float(loss.detach())
        shown = accuracy(model, torch.from_numpy(validate.images), torch.from_numpy(validate.labels))
        took = f"{time.monotonic() - began:.0f} s"
        print(
            f"epoch {epoch + 1}/{options.epochs}: loss {losses / steps:.4f}, validation {shown:.2%}, {took}", flush=True
        )
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        save_whole({**parts, "epoch": epoch + 1}, saved)
    final = accuracy(model, torch.from_numpy(test.images), torch.from_numpy(test.labels))
    print(f"test, {len(test.labels)} images: {final:.2%}")
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    known = {
        "net": options.net,
        "seed": str(options.seed),
        "epochs": str(options.epochs),
        "test_accuracy": f"{final:.4f}",
    }
    save_file(weights, options.out, metadata=known)
    saved.unlink()


if __name__ == "__main__":
    main()
