"""The honest table: what each step promised, what was measured of it on the target, and whether the build goes on.

Knows which net each row is and what it is held to; the judging is paying.py's, the measuring trial.py's.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolchain.backends import backend
from toolchain.build.step_benchmark import Artifact, Figures, figures, latencies
from toolchain.build.step_verdict import Row, Terms, Verdict, judge
from toolchain.build.steps import device_of, facts_in, records_of, rehearsal_inputs, rehearsed_nets, taught
from toolchain.compress import POST_EXPORT_STEPS
from toolchain.errors import DeviceError, RefusedError
from toolchain.job.job import Making, Measured, Reference
from toolchain.job.stages import code_digest, keep, kept
from toolchain.records.manifest import StepRecord
from toolchain.views.steps import steps_page

if TYPE_CHECKING:
    from toolchain.compress.properties import ModelProperties
    from toolchain.compress.step import CompressedModel, Step

logger = logging.getLogger(__name__)


CODE = (
    "toolchain/build/peak_memory.py",
    "toolchain/job/latency.py",
    "toolchain/build/step_benchmark.py",
    "deploy/runtime/engines",
)


@dataclass(frozen=True)
class Tried:
    """A recipe's nets, as it came and after each step, and the artifact of each on the target, or why there is none."""

    making: Making
    folders: tuple[Path, ...]
    artifacts: tuple[Artifact | str, ...]

    def built(self, prefix: str = "") -> dict[str, tuple[Making, Artifact]]:
        """Those that there are, by row."""
        return {
            f"{prefix}{number:03}": (self.making, artifact)
            for number, artifact in enumerate(self.artifacts)
            if not isinstance(artifact, str)
        }


def measured_steps(tried: Tried, measured: Measured | None, made: Sequence[Artifact]) -> dict[str, Figures]:
    """Figures by row, a kept stage. What was measured of `made`, the candidates, is not measured again."""
    built = tried.built()

    def make(folder: Path, _: Path) -> None:
        keep(folder, figures(built, _known(built, measured, made)))

    inputs = {
        "artifacts": {name: artifact[0].name for name, (_, artifact) in built.items()},
        "candidates": [folder.name for folder, _ in made],
        "data": tried.making.data.sha256,
        "code": code_digest(*CODE),
        **device_of(tried.making),
    }
    folder = tried.making.made("paid", "steps: latency, accuracy and memory on this machine", inputs, make)
    return kept(folder, dict[str, Figures])


def _known(
    built: Mapping[str, tuple[Making, Artifact]], measured: Measured | None, made: Sequence[Artifact]
) -> dict[str, Figures]:
    """The candidates' figures, for the rows that are candidates too."""
    by_precision = {one.precision: one for one in measured.candidates} if measured else {}
    candidates = {folder: by_precision[one.precision] for folder, one in made if one.precision in by_precision}
    found = {name: candidates.get(artifact[0]) for name, (_, artifact) in built.items()}
    return {name: Figures(one.latency_ms, one.accuracy) for name, one in found.items() if one is not None}


def terms_of(making: Making, reference: Reference, folders: tuple[Path, ...]) -> Terms:
    """What the recipe holds its steps to. A model that came untrained, or with other classes, is judged from where it
    was taught; before, its accuracies are told only."""
    return Terms(
        prefer=making.recipe.build.prefer,
        reference=reference.accuracy,
        max_loss=making.recipe.build.max_accuracy_loss,
        judged_from=taught(folders) if folders and reference.after_training else 0,
        lanes=_lanes(),
        computes=backend(making.target).COMPUTES,
    )


def told(
    tried: Tried, found: Mapping[str, Figures], terms: Terms, prefix: str = ""
) -> tuple[tuple[StepRecord, ...], tuple[Verdict, ...]]:
    """Each step's record with what was measured of it, and the verdicts."""
    records = records_of(tried.folders)
    rows = tuple(
        _row(
            record.step,
            record.options,
            record.macs,
            record.sparsity,
            facts_in(folder),
            Figures(absent=artifact) if isinstance(artifact, str) else found[f"{prefix}{number:03}"],
        )
        for number, (record, folder, artifact) in enumerate(zip(records, tried.folders, tried.artifacts, strict=True))
    )
    verdicts = judge(rows, terms)
    return tuple(_recorded(*one) for one in zip(records, rows, verdicts, strict=True)), verdicts


def refuse(making: Making, rows: Sequence[StepRecord], verdicts: Sequence[Verdict]) -> None:
    """RefusedError, after the table, for the first step that does not pay, where the recipe says so. A step that only
    makes another candidate stops nothing: that candidate is not chosen."""
    if not making.recipe.build.refuse:
        return
    for number, ((name, _), verdict) in enumerate(zip(making.steps, verdicts[1:], strict=True), 1):
        if verdict.pays is False and name not in POST_EXPORT_STEPS:
            logger.info(steps_page(rows, making.target))
            raise RefusedError(
                f"{making.place}: step {number}, {name}: {verdict.sentence}; "
                "change or remove the step, or set refuse = false under [build]"
            )


def refuse_before_training(making: Making, original: Path) -> None:
    """What is slower already in the shapes that the steps lead to is refused before hours of training are spent."""
    build = making.recipe.build
    computes = backend(making.target).COMPUTES
    if not (build.refuse and build.prefer == "latency" and computes and any(map(_trains, making.steps))):
        return

    def make(folder: Path, work: Path) -> None:
        keep(folder, _rehearsed_rows(making, rehearsed_nets(making, original, work)))

    inputs = {
        **rehearsal_inputs(making, original),
        "code": code_digest(*CODE, "toolchain/build/step_report.py", "toolchain/export"),
        **device_of(making),
    }
    try:
        folder = making.made("rehearsal-pays", "steps: rehearsed nets timed on the target", inputs, make)
    except DeviceError as error:
        logger.info(f"  nothing is refused before training: {error}")
        return
    rows = kept(folder, tuple[Row, ...])
    verdicts = judge(rows, Terms(lanes=_lanes()))
    refuse(making, tuple(_bare(*one) for one in zip(rows, verdicts, strict=True)), verdicts)


def _trains(named: "tuple[str, Step]") -> bool:
    from toolchain.compress.properties import is_training

    return is_training(named[1])


def _rehearsed_rows(making: Making, nets: "Sequence[CompressedModel]") -> tuple[Row, ...]:
    """Rows of the rehearsed nets: those that are computed in fp32 are timed, up to the first whose real widths only its
    training can tell; training alone changes no speed."""
    from toolchain.compress.metrics import macs, sparsity
    from toolchain.compress.properties import has_approximate_dry_run, properties_of

    steps = (None, *(step for _, step in making.steps))
    names = ("model", *(name for name, _ in making.steps))
    befores = (None, *nets[:-1])
    facts = [properties_of(*one) for one in zip(steps, befores, nets, strict=True)]
    known = next((at for at, name in enumerate(names) if has_approximate_dry_run(name, steps[at])), len(nets))
    asked = [at for at in range(known) if facts[at].precision == "fp32" and not facts[at].trains]
    timed = dict(zip(asked, latencies(making, [nets[at].module for at in asked]), strict=True))
    rows: list[Row] = []
    for at, (name, step, net) in enumerate(zip(names, steps, nets, strict=True)):
        latency_ms = timed.get(at, rows[-1].latency_ms if rows and facts[at].trains else None)
        given = Figures(latency_ms)
        options = msgspec.to_builtins(step) if step is not None else {}
        rows.append(_row(name, options, macs(net.module, making.recipe.input), sparsity(net.module), facts[at], given))
    return tuple(rows)


def _row(
    name: str, options: dict[str, object], macs: int, sparsity: float, facts: "ModelProperties", given: Figures
) -> Row:
    known = {**msgspec.structs.asdict(facts), **msgspec.structs.asdict(given)}
    return Row(step=name, macs=macs, options=options, sparsity=sparsity, **known)


def _recorded(record: StepRecord, row: Row, verdict: Verdict) -> StepRecord:
    return msgspec.structs.replace(
        record,
        precision=row.precision,
        predicted_speedup=verdict.predicted,
        measured_speedup=verdict.measured,
        latency_ms=row.latency_ms,
        accuracy=row.accuracy,
        artifact_bytes=row.artifact_bytes,
        memory_bytes=row.memory_bytes,
        verdict=verdict.sentence,
    )


def _bare(row: Row, verdict: Verdict) -> StepRecord:
    """The record of a rehearsed net."""
    bare = StepRecord(row.step, row.options, 0, row.macs, 0, None, 0.0, (), row.sparsity)
    return _recorded(bare, row, verdict)


def _lanes() -> int:
    """fp32 numbers in one vector of this CPU."""
    from deploy.runtime.device.probe import fingerprint

    isa = fingerprint().cpu_isa
    return 16 if "avx512f" in isa else 8 if "avx2" in isa else 4
