"""A small bundle's manifest, for pages that show what a server of it answers. Its values are made up."""

import msgspec

from toolchain.records.manifest import Manifest

MODEL = "my-model"
PREPROCESSING = {
    "height": 224,
    "width": 224,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "resize": 256,
}


def manifest() -> Manifest:
    """Two classes, one fp32 candidate of the null engine."""
    return msgspec.convert(
        {
            "name": MODEL,
            "release": "1",
            "target": "null",
            "model": "model.py",
            "inputs": [{"name": "image", "dtype": "uint8", "shape": [None, 224, 224, 3]}],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": [None, 2]}],
            "labels": ["cat", "dog"],
            "preprocessing": PREPROCESSING,
            "preprocessing_sha256": "",
            "candidates": [{"precision": "fp32", "backend": "null", "files": ["model.null.json"], "size_bytes": 1}],
            "chosen": "fp32",
            "choice": "",
            "files": [],
            "golden": {"relative": {}, "top1_agreement": {}},
            "needs": {},
            "data": {"name": "folder", "source": "images", "sha256": ""},
            "accuracy": None,
            "certify_accuracy": None,
            "steps": [],
            "parity": [],
            "tools": {},
            "recipe": "",
        },
        Manifest,
    )
