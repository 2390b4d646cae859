"""The content of a report: a release, its last gate, the other releases of the model, and what its build saw."""

from dataclasses import dataclass, replace

from deploy.ledger.change_points import ReleaseChange, find_release_changes
from deploy.ledger.history import HistoryRow
from deploy.ledger.ledger import Ledger
from toolchain.accuracy.kept import KeptEvaluation, evaluation_folder, read_evaluation
from toolchain.errors import UsageError
from toolchain.paths import home
from toolchain.records.gate import Gate
from toolchain.records.manifest import Manifest

RELEASES = 50


@dataclass(frozen=True)
class ReportContent:
    """bundle: the release's digest. gate: its last one, None if there was none. history: all releases of the model,
    newest first. changes: where its latency changed. previous: the release before it for the same target; seen: what
    its build kept of the data, None on a machine that did not build it."""

    bundle: str
    manifest: Manifest
    gate: Gate | None
    history: tuple[HistoryRow, ...]
    changes: tuple[ReleaseChange, ...] = ()
    previous: Manifest | None = None
    seen: KeptEvaluation | None = None


def read_report_content(name: str, release: str | None, ledger: Ledger) -> ReportContent:
    """The newest release of a model, or the named one; UsageError when the ledger has none."""
    history = ledger.history(name, RELEASES)
    if not history:
        known = ", ".join(dict.fromkeys(row.name for row in ledger.history(limit=RELEASES))) or "none"
        raise UsageError(f"no release of '{name}' in the ledger; it has: {known}")
    bundle = ledger.find_bundle(name, release)
    if bundle is None:
        releases = ", ".join(dict.fromkeys(row.release for row in history))
        raise UsageError(f"no release '{release}' of {name} in the ledger; it has: {releases}")
    return complete_content(built_content(bundle, ledger.manifest(bundle)), history, ledger)


def built_content(bundle: str, manifest: Manifest) -> ReportContent:
    """What a build tells of a release, without a ledger."""
    return ReportContent(bundle, manifest, None, (), seen=read_evaluation(evaluation_folder(home(), bundle)))


def complete_content(content: ReportContent, history: tuple[HistoryRow, ...], ledger: Ledger) -> ReportContent:
    """With the release's last gate, and what its model's history tells."""
    gates = ledger.gates(content.bundle)
    return replace(
        content,
        gate=gates[-1] if gates else None,
        history=history,
        changes=find_release_changes(history),
        previous=_previous_manifest(content.bundle, content.manifest, ledger),
    )


def _previous_manifest(bundle: str, manifest: Manifest, ledger: Ledger) -> Manifest | None:
    others = ledger.other_releases(bundle, manifest.name, manifest.target)
    return next((ledger.manifest(other.bundle) for other in others if other.older), None)
