"""`toolchain.gate`: a release against the one before it, both run in turn on this device."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from toolchain.api.bundle import BuiltBundle
from toolchain.api.display import show_progress
from toolchain.api.image import Image

if TYPE_CHECKING:
    from toolchain.records.gate import Gate

Release = str | PathLike[str] | Image | BuiltBundle


class GateOutcome:
    """What a gate found. `print` shows the page that `toolchain gate` prints.

    Attributes:
        record: everything that was measured (reference/file-formats.md#gate)

    Example:
        >>> result.verdict in ("passed", "regressed", "inconclusive", "not comparable")
        True
    """

    def __init__(self, record: "Gate") -> None:
        self.record = record

    @property
    def verdict(self) -> str:
        """passed, regressed, inconclusive or not comparable."""
        return self.record.verdict

    @property
    def passed(self) -> bool:
        """Whether the candidate may go."""
        return self.record.verdict == "passed"

    @property
    def reason(self) -> str:
        """The verdict's reason, in a sentence."""
        return self.record.reason

    def __str__(self) -> str:
        from toolchain.views.gate import gate_page

        return gate_page(self.record)

    def __repr__(self) -> str:
        return f"GateOutcome({self.verdict}: {self.reason})"

    def _repr_html_(self) -> str:
        """In a notebook: the findings, as a table and as a plot."""
        from html import escape

        from toolchain.report.html import table
        from toolchain.report.plots import distributions, svg
        from toolchain.views.gate import findings_table

        figure = distributions(self.record)
        found = findings_table(self.record, table) if self.record.findings else ""
        return f"{found}<p>{escape(f'{self.verdict}: {self.reason}')}</p>{svg(figure) if figure else ''}"


def gate_release(
    candidate: Release,
    baseline: Release | None = None,
    *,
    anchor: str | None = None,
    minutes: float = 5.0,
    budget: float | None = None,
    allow_difference: Sequence[str] = (),
    on: str | None = None,
    ledger: str | None = None,
) -> GateOutcome | None:
    """Compare a release with the one before it: is it slower, bigger or less accurate? Both run in turn on this device.

    The result is returned whatever the verdict; every round is kept in the ledger. None: a first release, which has
    nothing to be compared with.

    Args:
        candidate: an image or a bundle, as a value, a tag or a folder
        baseline: the same, or a release's name; by default the newest release that passed
        anchor: the release that small losses are added up against; by default the oldest; `none` for none
        minutes: the limit for each of at most two runs
        budget: how much worse latency and throughput may be, as a share; by default as the command's
        allow_difference: what may differ between the releases, such as engine or kernel; by default nothing
        on: run on another machine over ssh: HOST, USER@HOST or a name of ~/.ssh/config
        ledger: a database URL; by default $TOOLCHAIN_LEDGER, else .toolchain/ledger.sqlite

    Example:
        >>> result = edge.gate(image, image, minutes=0.2)
        >>> result.record.sides["candidate"].release
        '1'
    """
    from deploy.docker.ssh import engine_on
    from deploy.gate.run import GateRequest, run_gate
    from deploy.ledger.ledger import Ledger

    words = tuple(allow_difference)
    with show_progress(), engine_on(on), Ledger(ledger) as book:
        against = None if baseline is None else _name_release(baseline)
        record = run_gate(GateRequest(_name_release(candidate), against, anchor, minutes, budget, words, on), book)
    return None if record is None else GateOutcome(record)


def _name_release(release: Release) -> str:
    """What the gate knows it by. A bundle's image is built where it is not on the engine."""
    if isinstance(release, BuiltBundle):
        return release.image().tag
    return release.tag if isinstance(release, Image) else fspath(release)
