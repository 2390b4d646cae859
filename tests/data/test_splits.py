"""The order is binding: models are trained on it."""

from toolchain.data.splits import shuffle_indices, split_indices


def test_the_order_is_the_one_that_models_were_trained_on() -> None:
    assert shuffle_indices(10, 0) == sorted(
        range(10), key=lambda i: __import__("hashlib").sha256(b"0:%d" % i).hexdigest()
    )
    assert shuffle_indices(50_000, 0)[:3] == [20015, 34125, 34409]


def test_cifar_keeps_a_thousand_for_the_certificate_and_a_thousand_for_validation() -> None:
    order = shuffle_indices(50_000, 0)
    parts = split_indices(order)
    assert parts["certify"] == order[:1000] and parts["validate"] == order[1000:2000]
    assert parts["train"] == sorted(order[2000:])


def test_a_small_set_gives_a_tenth_at_most() -> None:
    assert [len(part) for part in split_indices(shuffle_indices(59, 0)).values()] == [5, 5, 49]
    assert [len(part) for part in split_indices(shuffle_indices(3, 0)).values()] == [0, 0, 3]
