"""The commands `gate` and `gate selftest`."""


def gate(
    candidate: str,
    *,
    against: str | None = None,
    anchor: str | None = None,
    on: str | None = None,
    minutes: float = 5.0,
    budget: float | None = None,
    allow_difference: str = "",
    ledger: str | None = None,
) -> None:
    """Refuse a release that is slower, bigger or less accurate than the one before it, both run in turn on this device.

    Exit status 0: passed; 1: regressed; 3: inconclusive, or not comparable. Every round is kept in the ledger.

    Args:
        candidate: an image's tag, or a bundle's folder whose image is here
        against: the baseline: a release or an image's tag; by default the newest release that passed
        anchor: the release that small losses are added up against; by default the oldest; `none` for none
        on: run on another machine over ssh: HOST, USER@HOST or a name of ~/.ssh/config
        minutes: the limit for each of at most two runs
        budget: how much worse latency and throughput may be, as a share; by default 0.02 for p50 and throughput, 0.05
            for p90, 0.1 for p99
        allow_difference: what may differ between the releases, such as engine or engine,kernel; by default nothing
        ledger: a database URL; by default $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.docker.ssh import engine_on
    from deploy.gate.run import GateRequest, run_gate
    from deploy.ledger.ledger import Ledger
    from toolchain.views.bundle import as_json
    from toolchain.views.gate import gate_page, gate_summary
    from toolchain.webhook import gate_event, send_event

    words = tuple(filter(None, allow_difference.split(",")))
    with engine_on(on), Ledger(ledger) as book:
        result = run_gate(GateRequest(candidate, against, anchor, minutes, budget, words, on), book)
    if result is None:
        reason = "a first release; there is nothing to compare it with"
        print(f"passed: {reason}", end="\n\n")
        print(as_json({"verdict": "passed", "reason": reason}))
        send_event(gate_event(None, candidate, reason))
        return
    print(gate_page(result), end="\n\n")
    print(as_json(gate_summary(result)))
    send_event(gate_event(result, candidate, result.reason))
    if result.verdict != "passed":
        raise SystemExit(1 if result.verdict == "regressed" else 3)


def gate_selftest(
    release: str,
    *,
    gates: int = 20,
    slower: str = "0,0.01,0.02,0.03,0.05,0.1",
    minutes: float = 5.0,
    on: str | None = None,
    ledger: str | None = None,
) -> None:
    """Measure how often the gate is wrong on this device: a release against itself, unchanged and slowed on purpose.

    Reports the rates of false alarms and of detection with their intervals, and plots them. Later gates allow for the
    noise that it finds on this device.

    Args:
        release: an image's tag, or a bundle's folder whose image is here
        gates: how many gates to run for each slowdown
        slower: by what shares the candidate is slowed, separated by commas
        minutes: the limit for each of at most two runs of a gate
        on: run on another machine over ssh: HOST, USER@HOST or a name of ~/.ssh/config
        ledger: a database URL; by default $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite
    """
    from deploy.docker.ssh import engine_on
    from deploy.gate.gate import GateOptions
    from deploy.gate.releases import read_arm
    from deploy.gate.selftest import error_rates, parse_slowdowns, run_selftest
    from deploy.ledger.ledger import Ledger
    from toolchain.paths import home
    from toolchain.report.plots import power, write_plot
    from toolchain.views.bundle import as_json
    from toolchain.views.gate import rates_page

    with engine_on(on), Ledger(ledger) as book:
        arm = read_arm(release)
        trials = run_selftest(arm, parse_slowdowns(slower), gates, GateOptions(minutes=minutes), book, on)
    rates = list(error_rates(trials))
    plot = write_plot(power(rates), home() / "reports" / f"selftest-{arm.name}-{arm.release}.png")
    print(rates_page(rates), end="\n\n")
    print(as_json({"release": release, "rates": rates, "plot": plot}))
