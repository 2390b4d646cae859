from pathlib import Path

import numpy as np
import pytest

from deploy.runtime.certification.certificate import run_certify
from deploy.runtime.certification.names import check_names, compare_names
from deploy.runtime.engines import Settings, serving_engine
from tests.bundles import LABELS, null_bundle
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Check

EXPECTED = "each class answered by the name of its labelled images"


def names_of(bundle: Bundle) -> Check | None:
    with serving_engine(bundle, Settings(1)) as engine:
        return check_names(bundle, engine)


def test_names_that_the_server_answers_are_the_images_own(tmp_path: Path) -> None:
    found = "4 of 4 names are the same over HTTP; 12 of 12 images answered with their class's name"
    assert names_of(null_bundle(tmp_path / "b", classes=LABELS)) == Check("names", True, found, EXPECTED)


def test_labels_in_another_order_than_the_images_classes_are_refused_by_the_certificate(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b", labels=("ship", "dog", "frog", "cat"), classes=LABELS)
    certificate = run_certify(bundle, 1, lambda _: None, seconds=0.2)
    assert not certificate.passed
    assert not certificate.scenarios  # what names wrongly is not measured
    (failed,) = [check for check in certificate.checks if not check.passed]
    pairs = "images of 'cat' are answered as 'ship', images of 'ship' are answered as 'cat'"
    assert failed == Check("names", False, f"{pairs}: the bundle's labels are in another order", EXPECTED)


@pytest.mark.parametrize("seed", range(50))
def test_every_permutation_is_refused(seed: int) -> None:
    classes = [f"class {number}" for number in range(2 + seed % 9)]
    order = np.random.default_rng(seed).permutation(len(classes))
    served = [classes[at] for at in order]
    assert compare_names(served, classes).passed == (served == classes)


def test_many_wrong_names_are_counted() -> None:
    classes = [str(number) for number in range(9)]
    found = compare_names(classes[::-1], classes).found
    assert found.startswith("images of '0' are answered as '8', ")
    assert "and 5 classes more" in found


def test_names_that_only_one_side_knows_tell_nothing_of_the_order() -> None:
    check = compare_names(("tench", "Great_white shark"), ("n01440764", "great white-shark"))
    assert check.passed
    found = "1 of 2 names are the same over HTTP; the images of the others have names of their own"
    assert check.found == f"{found} ('n01440764' is answered as 'tench')"


def test_a_bundle_that_kept_no_names_of_its_images_is_not_checked(tmp_path: Path) -> None:
    assert names_of(null_bundle(tmp_path / "b")) is None
