from pathlib import Path

from deploy.docker.labels import BUNDLE, image_labels
from tests.bundles import null_bundle


def test_labels_tell_what_the_image_serves(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b", release="7")
    labels = image_labels(bundle, "Debian bookworm packages")
    assert labels["org.opencontainers.image.title"] == "null"
    assert labels["org.opencontainers.image.version"] == "7"
    assert labels[BUNDLE] == bundle.digest
    assert labels["dev.edge-toolchain.input"] == "image: uint8 [N, 8, 8, 3]"
    assert labels["dev.edge-toolchain.labels"] == "4"
    assert labels["dev.edge-toolchain.precision"] == "fp32"
    assert labels["dev.edge-toolchain.accuracy"] == "1.0000"
    assert labels["dev.edge-toolchain.needs"] == "x86_64"
    assert labels["dev.edge-toolchain.base"] == "Debian bookworm packages"


def test_a_model_without_a_labelled_test_part_claims_no_accuracy(tmp_path: Path) -> None:
    labels = image_labels(null_bundle(tmp_path / "b", accuracy=None), "")
    assert not [name for name in labels if "accuracy" in name]
