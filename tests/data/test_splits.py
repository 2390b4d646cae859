"""The order may never change: models were trained on it."""

from hashlib import sha256

from toolchain.data.splits import shuffle_indices, split_indices


def test_the_order_is_the_one_that_models_were_trained_on() -> None:
    assert shuffle_indices(10, 0) == sorted(range(10), key=lambda index: sha256(b"0:%d" % index).hexdigest())
    assert shuffle_indices(50_000, 0)[:3] == [20015, 34125, 34409]


def test_cifar_holds_out_a_thousand_images_for_the_certificate_and_a_thousand_for_validation() -> None:
    order = shuffle_indices(50_000, 0)
    splits = split_indices(order)
    assert splits["certify"] == order[:1000] and splits["validate"] == order[1000:2000]
    assert splits["train"] == sorted(order[2000:])


def test_at_most_a_tenth_of_a_small_set_is_held_out() -> None:
    assert [len(split) for split in split_indices(shuffle_indices(59, 0)).values()] == [5, 5, 49]
    assert [len(split) for split in split_indices(shuffle_indices(3, 0)).values()] == [0, 0, 3]
