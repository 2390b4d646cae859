"""The runs behind distillation.py: one kind of distillation with one seed, trained, evaluated and cached.

Knows the kinds and the budget; knows nothing of tables.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec

from toolchain.cli.console import log_to_stderr
from toolchain.job.code_digest import source_tree
from toolchain.paths import home
from toolchain.records.storage import digest_of, encode_record, write_atomically
from toolchain.records.tensors import Preprocessing

EXAMPLES = Path(__file__).parents[2] / "examples" / "cifar10"
PREPROCESSING = Preprocessing(32, 32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
TEACHER = {"source": "cifar:resnet20", "weights": str(EXAMPLES / "resnet20.safetensors")}
SECOND_NETS = ("vgg11", "vgg16", "resnet56", "resnet32")  # of another family, by preference
STUDENT = "resnet8"
NONE = "no teacher"
TEST_IMAGES = 10_000
CODE = "toolchain.compress"  # this code and all that it imports determine a run


class Budget(msgspec.Struct, frozen=True):
    """The training budget of every kind."""

    samples: int = 2000
    epochs: int = 12
    seeds: int = 3
    lr: float = 0.1
    batch_size: int = 64
    warmup_epochs: float = 0.5


@dataclass(frozen=True)
class Kind:
    """A line of the table: which step, with which options and teachers ("second": a net of another family; "onnx": the
    teacher as a file). least_gain: points over no teacher; None: not worse by more than noise. reason: why it may be
    worse."""

    name: str
    step: str
    options: dict[str, Any] = field(default_factory=dict)
    teachers: tuple[str, ...] = ("first",)
    least_gain: float | None = None
    reason: str = ""


KINDS = (
    Kind(NONE, "finetune", teachers=()),
    Kind("response", "distill", least_gain=0.5),
    Kind("decoupled", "distill_decoupled", least_gain=0.5),
    Kind("hints", "distill_hints"),
    Kind("attention", "distill_attention"),
    Kind("relation", "distill_relation"),
    Kind("self", "distill_self", teachers=()),
    Kind("born again", "born_again"),
    Kind("mutual", "distill_mutual", teachers=()),
    Kind("two teachers, averaged", "distill", teachers=("first", "second")),
    Kind("two teachers, by entropy", "distill", {"weighting": "entropy"}, ("first", "second")),
    Kind("teacher of another family", "distill", teachers=("second",)),
    Kind("teacher as ONNX file", "distill", teachers=("onnx",)),
)


class Run(msgspec.Struct, frozen=True):
    """accuracy: share of the 10,000 test images; seconds: since it was last resumed."""

    kind: str
    seed: int
    accuracy: float
    seconds: float


def second_teacher() -> dict[str, str] | None:
    """The first trained model of another family in the example's folder."""
    for net in SECOND_NETS:
        if (EXAMPLES / f"{net}.safetensors").is_file():
            return {"source": f"cifar:{net}", "weights": str(EXAMPLES / f"{net}.safetensors")}
    return None


def teachers_for(kind: Kind, folder: Path) -> list[dict[str, str]] | None:
    """The specs of the kind's teachers; None if a file is missing. `folder` holds the ONNX file."""
    known = {"first": TEACHER, "second": second_teacher(), "onnx": {"source": str(folder / "resnet20.onnx")}}
    teachers = [known[name] for name in kind.teachers]
    return None if None in teachers else [teacher for teacher in teachers if teacher]


def write_onnx_teacher(folder: Path) -> None:
    """The teacher as a graph of normalized float32 [N, 3, 32, 32], any N; reused if it exists."""
    import torch

    from toolchain.models import load_model
    from toolchain.recipe import ModelSpec

    path = folder / "resnet20.onnx"
    if path.is_file():
        return
    module = load_model(ModelSpec(TEACHER["source"], TEACHER["weights"]), PREPROCESSING, 10, Path()).require_module()
    images = torch.zeros(2, 3, 32, 32)
    program = torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    exported = torch.onnx.export(program, (), opset_version=18, verbose=False)
    assert exported is not None
    write_atomically(path, exported.model_proto.SerializeToString())


def run_once(kind: Kind, seed: int, budget: Budget, folder: Path) -> Run:
    """One run, or its cached result."""
    teachers = teachers_for(kind, folder)
    assert teachers is not None
    shared = {name: value for name, value in msgspec.to_builtins(budget).items() if name != "seeds"}
    options = {**shared, **kind.options, **({"teachers": teachers} if teachers else {})}
    files = [digest_of(Path(teacher.get("weights", teacher["source"]))) for teacher in teachers]
    key = sha256(
        encode_record([STUDENT, kind.step, options, files, seed, source_tree(folder).digest(CODE)])
    ).hexdigest()[:20]
    path, work = folder / f"{key}.json", folder / f"{key}.work"
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=Run)
    run = _done(kind, seed, options, work)
    write_atomically(path, encode_record(run))
    rmtree(work, ignore_errors=True)
    return run


def _done(kind: Kind, seed: int, options: dict[str, Any], work: Path) -> Run:
    import time

    import torch

    from toolchain.compress import check_steps, parse_steps
    from toolchain.compress.metrics import accuracy
    from toolchain.compress.step import CompressedModel, StepContext
    from toolchain.data import load
    from toolchain.models.cifar import cifar_network

    began, data = time.monotonic(), load("cifar10")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = cifar_network(STUDENT, 10).eval()
    title = f"{kind.name}, seed {seed}"
    log_to_stderr(f"{title}: %(message)s")  # several trainings run at once
    context = StepContext(data, PREPROCESSING, work, seed)
    steps = parse_steps(({kind.step: options},), title)
    check_steps(steps, CompressedModel(student), context, title)
    module = steps[0][1].apply(CompressedModel(student), context).module
    measured = accuracy(module, data.split("test"), PREPROCESSING, f"{title}: test")
    return Run(kind.name, seed, measured, time.monotonic() - began)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def runs(budget: Budget, workers: int, kinds: Sequence[Kind] = KINDS) -> Iterable[Run]:
    """Every kind whose teachers exist, with every seed, in the order in which they finish."""
    folder = home() / "cache" / "distillation"
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx_teacher(folder)
    wanted = [kind for kind in kinds if teachers_for(kind, folder) is not None]
    os.environ["OMP_NUM_THREADS"] = "1" if workers > 1 else os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    start = _one_thread if workers > 1 else None
    with ProcessPoolExecutor(workers, get_context("spawn"), start) as pool:
        waiting = [
            pool.submit(run_once, kind, seed, budget, folder) for seed, kind in product(range(budget.seeds), wanted)
        ]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
