"""Bundles for tests, made in milliseconds: real manifests round the null engine."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from deploy.runtime.engines.null import NullArtifact
from toolchain.records.bundle import CERTIFY, SAMPLE, Bundle, file_record, write_bundle
from toolchain.records.manifest import Accuracy, Candidate, DataRecord, GoldenTolerances, Manifest, Needs
from toolchain.records.storage import encode_record
from toolchain.records.tensors import Preprocessing, TensorSpec, preprocessing_digest

SHAPE = (8, 8, 3)
SMALL = Preprocessing(*SHAPE)
LABELS = ("cat", "dog", "frog", "ship")


def null_bundle(
    folder: Path,
    delay_ms: float = 0.0,
    release: str = "1",
    int8_ms: float | None = None,
    labels: tuple[str, ...] = LABELS,
    preprocessing: Preprocessing = SMALL,
    classes: tuple[str, ...] = (),
    **changes: Any,
) -> Bundle:
    """A bundle that serves zeros for uint8 pictures of [N, 8, 8, 3], or the shape of `preprocessing`, a class a label;
    `changes` go into its manifest.
    int8_ms: there is a second candidate, int8, that takes so long; classes: what the labelled images are called."""
    inputs = (TensorSpec("image", "uint8", (None, *preprocessing.shape)),)
    outputs = (TensorSpec("logits", "float32", (None, len(labels))),)
    making = folder.parent / f"{folder.name}.parts"
    making.mkdir(parents=True)
    model, sample, certify = making / "model.null.json", making / SAMPLE, making / CERTIFY
    model.write_bytes(encode_record(NullArtifact(inputs, outputs, delay_ms)))
    pictures = np.random.default_rng(0).integers(0, 256, (12, *preprocessing.shape), np.uint8)
    answers = np.zeros((4, len(labels)), np.float32)
    candidates = [Candidate("fp32", "null", (model.name,), model.stat().st_size, 1.0, delay_ms, "chosen")]
    parts, golden = [model, sample, certify], {"outputs_fp32": answers}
    if int8_ms is not None:
        second = making / "model.int8.null.json"
        second.write_bytes(encode_record(NullArtifact(inputs, outputs, int8_ms)))
        candidates.append(Candidate("int8", "null", (second.name,), second.stat().st_size, 1.0, int8_ms, "slower"))
        parts.append(second)
        golden["outputs_int8"] = answers
    candidates = [msgspec.structs.replace(one, certify_accuracy=1.0) for one in candidates]
    np.savez(sample, allow_pickle=False, inputs=pictures[:4], **golden)
    named = {"classes": np.array(classes)} if classes else {}
    np.savez(certify, allow_pickle=False, images=pictures, labels=np.zeros(12, np.int64), **named)
    manifest = Manifest(
        name="null",
        release=release,
        target="null",
        model="null",
        inputs=inputs,
        outputs=outputs,
        labels=labels,
        preprocessing=preprocessing,
        preprocessing_sha256=preprocessing_digest(preprocessing),
        candidates=tuple(candidates),
        chosen="fp32",
        choice="the only candidate",
        files=tuple(file_record(path) for path in parts),
        golden=GoldenTolerances({"fp32": 1e-3, "int8": 1e-3}, {"fp32": 1.0, "int8": 1.0}),
        needs=Needs(),
        data=DataRecord("made", "test", "0" * 64, certify_part="train", certify_indices=tuple(range(12))),
        accuracy=Accuracy("test", 12, 1.0, 1.0, 0.995),
        certify_accuracy=1.0,
        steps=(),
        parity=(),
        tools={},
        recipe="",
    )
    return write_bundle(folder, msgspec.structs.replace(manifest, **changes), parts)
