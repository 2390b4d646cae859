"""ONNX -> a TensorRT plan, in either flavour: ahead of time on any machine (TensorRT for RTX), or on the device itself
(classic TensorRT). The differences between the two are in TensorRtLibrary and nowhere else.

Networks are strongly typed: the ONNX decides the precision (TensorRT 11). Knows nothing of bundles, nor of running a
plan (tensorrt.py does).
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from threading import Lock
from time import monotonic
from typing import Any, Literal, NamedTuple

from toolchain.errors import DeviceError

Flavour = Literal["rtx", "classic"]
PACKAGES: dict[Flavour, str] = {"rtx": "tensorrt_rtx_bindings", "classic": "tensorrt_bindings"}
INPUT = "image"


class LogMessage(NamedTuple):
    """A line of TensorRT's log. severity: 0 internal error, 1 error, 2 warning, 3 info, 4 verbose."""

    severity: int
    text: str


class TensorRtPlan(NamedTuple):
    """content: the serialized engine; log: the builder's whole log; timing_cache: of the classic flavour, input of the
    next build."""

    content: bytes
    log: tuple[LogMessage, ...]
    seconds: float
    timing_cache: bytes = b""

    @property
    def layers(self) -> tuple[str, ...]:
        """The final layers, a line each (`Name: …, LayerType: …`), from the detailed log."""
        told = next((one.text for one in self.log if one.text.startswith("Layers:")), "")
        return tuple(line for line in told.splitlines() if line.startswith("Name: ") and "LayerType: " in line)


@dataclass(frozen=True)
class TensorRtLibrary:
    """A flavour's Python package, and what distinguishes it from the other."""

    flavour: Flavour
    trt: Any

    @property
    def version(self) -> str:
        return f"tensorrt{'-rtx' if self.flavour == 'rtx' else ''} {self.trt.__version__}"

    @property
    def ahead_of_time(self) -> bool:
        """Whether it builds for GPUs that are not in this machine."""
        return self.flavour == "rtx"

    @cached_property
    def capabilities(self) -> tuple[int, ...]:
        """Compute capabilities that it can build for, such as 86; none: only for the GPU in this machine."""
        if not self.ahead_of_time:
            return ()
        return tuple(sorted(int(name[2:]) for name in dir(self.trt.ComputeCapability) if name.startswith("SM")))

    @cached_property
    def logger(self) -> Any:
        """The process's one logger: TensorRT keeps the first one that it gets and ignores later ones."""
        return _logger(self.trt)

    @contextmanager
    def capture_log(self) -> Iterator[list[LogMessage]]:
        """TensorRT's log messages inside the block; one block at a time."""
        with self.logger.turn:
            heard: list[LogMessage] = []
            self.logger.heard = heard
            try:
                yield heard
            finally:
                self.logger.heard = None


@cache
def load_library(flavour: Flavour) -> TensorRtLibrary:
    """The package of a flavour; DeviceError where it is not installed."""
    package = PACKAGES[flavour]
    try:
        return TensorRtLibrary(flavour, import_module(package))
    except ImportError as error:
        raise DeviceError(f"no {package} here ({error}); this bundle needs the image for target tensorrt") from error


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]  # the base class is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.turn = Lock()
            self.heard: list[LogMessage] | None = None

        def log(self, severity: Any, text: str) -> None:
            if self.heard is not None:
                self.heard.append(LogMessage(int(severity), text))
            elif int(severity) <= 1:
                print(f"tensorrt: {text}", file=sys.stderr, flush=True)

    return Logger()


def build_plan(
    library: TensorRtLibrary,
    onnx: bytes,
    batches: Sequence[int],
    capabilities: Sequence[int] = (),
    timing_cache: bytes = b"",
) -> TensorRtPlan:
    """Build for batches from the smallest to the largest of `batches`, tuned for the middle one, and for `capabilities`
    (classic: none, it builds for this GPU). DeviceError: what the parser or the builder refused."""
    trt, began = library.trt, monotonic()
    with library.capture_log() as heard:
        builder = _make_builder(library, heard)
        network = _parse_onnx(library, builder, onnx)
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: "fp32" would have 10 bits of mantissa
        config.add_optimization_profile(_profile(builder, network, sorted(batches)))
        cache_ = _set_target(library, config, capabilities, timing_cache)
        content = builder.build_serialized_network(network, config)
        if content is None:
            raise DeviceError(f"{library.version} cannot build the graph: {first_error(heard)}")
        kept = bytes(cache_.serialize()) if cache_ is not None else b""
        return TensorRtPlan(bytes(content), tuple(heard), monotonic() - began, kept)


def check_parser(library: TensorRtLibrary, onnx: bytes) -> None:
    """DeviceError: what TensorRT's parser does not take; nothing is built."""
    with library.capture_log() as heard:
        _parse_onnx(library, _make_builder(library, heard), onnx)


def _make_builder(library: TensorRtLibrary, heard: Sequence[LogMessage]) -> Any:
    builder = library.trt.Builder(library.logger)
    if builder is None:
        raise DeviceError(f"{library.version} cannot build here: {first_error(heard)}")
    return builder


def _parse_onnx(library: TensorRtLibrary, builder: Any, onnx: bytes) -> Any:
    """TensorRT's network of an ONNX file; DeviceError: the node that the parser does not take, and why."""
    network = builder.create_network(0)
    parser = library.trt.OnnxParser(network, library.logger)
    if not parser.parse(onnx):
        raise DeviceError(f"{library.version} cannot read the graph: {_parser_error(parser)}")
    return network


def _profile(builder: Any, network: Any, batches: Sequence[int]) -> Any:
    profile = builder.create_optimization_profile()
    ends = batches[0], batches[len(batches) // 2], batches[-1]
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        if list(tensor.shape)[1:].count(-1) or tensor.shape[0] != -1:
            raise DeviceError(f"input {tensor.name} {list(tensor.shape)}: expected a free batch and nothing else free")
        profile.set_shape(tensor.name, *((batch, *tensor.shape[1:]) for batch in ends))
    return profile


def _set_target(found: TensorRtLibrary, config: Any, capabilities: Sequence[int], timing_cache: bytes) -> Any:
    """Tell the builder for which GPUs; the timing cache of the classic flavour, which is for this one."""
    if not found.ahead_of_time:
        cache_ = config.create_timing_cache(timing_cache)
        config.set_timing_cache(cache_, ignore_mismatch=False)
        return cache_
    config.num_compute_capabilities = len(capabilities)
    for place, one in enumerate(capabilities):
        if one not in found.capabilities:
            known = ", ".join(map(str, found.capabilities))
            raise DeviceError(f"{found.version} builds for compute capabilities {known}; not {one}")
        config.set_compute_capability(getattr(found.trt.ComputeCapability, f"SM{one}"), place)
    return None


def _parser_error(parser: Any) -> str:
    if not parser.num_errors:
        return "it gives no reason"
    error = parser.get_error(0)
    where = f"{error.node_name()}: " if error.node_name() else ""
    return where + one_line(error.desc())


def first_error(heard: Sequence[LogMessage]) -> str:
    """The first error, except for CUDA's missing driver, which TensorRT always reports where there is no GPU."""
    errors = [one_line(one.text) for one in heard if one.severity <= 1]
    real = [one for one in errors if "cudaError 35" not in one]
    return next(iter(real or errors), "it gives no reason")


def one_line(text: str) -> str:
    """A message without its positions in TensorRT's own sources."""
    return " ".join(text.partition(" In ")[0].partition("\n[checkMacros")[0].split())
