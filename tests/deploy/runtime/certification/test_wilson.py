import pytest

from deploy.runtime.certification.wilson import wilson


def test_wilson_s_interval_is_the_published_one() -> None:
    # Brown, Cai and DasGupta 2001: 95 % intervals; 10 of 20, and 0 of 20 that the normal interval calls certain.
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_no_share_no_interval(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {trials} is no share"):
        wilson(successes, trials)
