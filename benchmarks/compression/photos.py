"""How many of the photos in a bundle's data does its int8 candidate name as its fp32 candidate does?

python -m benchmarks.compression.photos BUNDLE
"""

import sys
from pathlib import Path

import msgspec
import numpy as np

from deploy.runtime.device.probe import default_threads
from deploy.runtime.engines import Settings, serving_engine
from toolchain.cli.console import log_to_stderr
from toolchain.data import load
from toolchain.records.bundle import open_bundle


def main() -> None:
    log_to_stderr()
    bundle = open_bundle(Path(sys.argv[1]))
    test = load(bundle.manifest.data.name, bundle.manifest.preprocessing).split("test")
    images, named = np.ascontiguousarray(test.images[:]), {}
    for precision in ("fp32", "int8"):
        with serving_engine(bundle, Settings(default_threads()), precision) as engine:
            answers = engine.infer({engine.inputs[0].name: images})
            named[precision] = answers[engine.outputs[0].name].argmax(1)
    right = {
        f"right_{precision}": int((class_photos == test.labels).sum()) for precision, class_photos in named.items()
    }
    same = int((named["fp32"] == named["int8"]).sum())
    print(msgspec.json.encode({"photos": len(test), "same": same, **right}).decode())


if __name__ == "__main__":
    main()
