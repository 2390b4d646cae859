"""Slices -> figures: ratios to the neighbours, so that drift of the machine cancels."""

import pytest

from benchmarks.serving.slices import Figures, Round, Slice, figures
from benchmarks.serving.verdicts import page, rows


def played(rate: int, ms: float = 1.0, cpu_s: float = 0.0) -> Slice:
    return Slice(1.0, (ms,) * rate, rate, cpu_s)


def line(server: str, transport: str, concurrency: int, share: float, model: str = "mobilenet_v2") -> Figures:
    return Figures(
        *(model, server, transport, concurrency, share, 100.0, 2.0, 10.0 / share, 0.3, 4.0, 0.1, 90.0, (share, share))
    )


def test_a_share_is_relative_to_the_bare_slices_before_and_after() -> None:
    assert Round(played(100), played(120), played(200), 0.0).share == pytest.approx(0.8)


def test_a_machine_that_slows_down_between_rounds_does_not_change_the_share() -> None:
    fast, slow = (Round(played(n), played(n * 9 // 10), played(n), 0.0) for n in (1000, 500))
    figure = figures("m", "ours", "t", 4, [fast, fast, slow], 0.0)
    assert (figure.share, figure.spread) == (pytest.approx(0.9), (pytest.approx(0.9), pytest.approx(0.9)))


def test_the_median_round_counts_not_the_mean() -> None:
    shares = (0.9, 0.2, 0.95)
    rounds = [Round(played(1000), played(int(1000 * share)), played(1000), 0.0) for share in shares]
    assert figures("m", "ours", "t", 4, rounds, 0.0).share == pytest.approx(0.9)


def test_latency_beyond_the_bare_engine_is_reported_in_ms() -> None:
    figure = figures("m", "ours", "t", 1, [Round(played(10, 1.0), played(10, 2.0), played(10, 2.0), 0.0)], 0.0)
    assert figure.more_ms == pytest.approx(0.5)


def test_cpu_time_is_reported_per_request_including_warm_up_requests() -> None:
    row = Slice(1.0, (1.0,) * 8, 10, 0.02)
    figure = figures("m", "ours", "t", 4, [Round(row, row, row, 0.05)], 0.0)
    assert (figure.server_cpu_ms, figure.client_cpu_ms) == (pytest.approx(5.0), pytest.approx(2.0))


def test_percentiles_pool_the_latencies_of_all_rounds() -> None:
    rounds = [Round(played(10), played(99 if ms == 1 else 1, ms), played(10), 0.0) for ms in (1.0, 50.0)]
    figure = figures("m", "ours", "t", 4, rounds, 0.0)
    assert (figure.p50_ms, figure.p99_ms) == (1.0, pytest.approx(1.5, abs=1.0))


def test_every_bound_has_a_row() -> None:
    figure = [
        *(line("ours", "HTTP uint8", c, 0.97, model) for model in ("mobilenet_v2", "resnet50") for c in (1, 4, 16)),
        *(line("ours", "shared memory", c, 0.92) for c in (1, 4, 16)),
        *(line(peer, "HTTP raw", c, 0.5) for peer in ("LitServe", "FastAPI") for c in (1, 4, 16)),
    ]
    verdict = {row.what: row for row in rows(figure)}
    assert len(verdict) == 2 * 2 + 2 + 3 + 2 * 3
    assert verdict["resnet50, HTTP uint8, c=16: of the bare engine's throughput"].holds
    assert not verdict["mobilenet_v2, shared memory, c=4: of the bare engine's throughput"].holds
    assert verdict["mobilenet_v2, HTTP uint8, c=1: p50 beyond the bare engine's"].bound == "<= 0.4 ms"
    assert not verdict["mobilenet_v2, shared memory, c=1: p50 beyond the bare engine's"].holds
    assert verdict["mobilenet_v2, c=4: throughput over LitServe"].value == pytest.approx(0.97 / 0.5)
    assert verdict["mobilenet_v2, c=4: p99 over LitServe"].holds


def test_a_peer_is_compared_by_its_fastest_transport() -> None:
    figure = [line("ours", "HTTP uint8", 4, 0.9), line("KServe", "gRPC", 4, 0.3), line("KServe", "HTTP raw", 4, 0.6)]
    verdict = next(row for row in rows(figure) if "throughput over KServe" in row.what)
    assert verdict.value == pytest.approx(1.5)
    assert "HTTP raw" in verdict.note


def test_the_page_has_a_line_for_each_measurement() -> None:
    text = page([line("ours", "HTTP uint8", 4, 0.9), line("bare engine", "in process", 4, 1.0)])
    assert [" ".join(words.split()[:5]) for words in text.splitlines()[2:4]] == [
        "mobilenet_v2 4 ours HTTP uint8",
        "mobilenet_v2 4 bare engine in",
    ]
