"""Start-up certification: which candidate serves, whether it may, and the certificate that says so.

The golden samples are checked at every start. The whole certificate is made once for each bundle, device and engine
version and kept on the volume (policy `first`), at every start (`always`), or never (`off`).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from deploy.runtime.certification.certificate import SECONDS, run_certify
from deploy.runtime.certification.checks import golden_checks
from deploy.runtime.certification.offered import preferred_here
from deploy.runtime.device.probe import fingerprint
from deploy.runtime.device.signing import is_signed_by, sign_certificate, signing_key
from deploy.runtime.device.state import load_certificate, save_certificate, writable_folder
from deploy.runtime.engines import Engine, Settings, serving_engines
from deploy.runtime.scheduling.batch_costs import calibrate_batches
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Certificate, Check

CertificationPolicy = Literal["always", "first", "off"]
POLICIES: tuple[CertificationPolicy, ...] = ("always", "first", "off")
LogLine = Callable[[str], None]


class CertificationOptions(msgspec.Struct, frozen=True):
    """state: the volume's folder; key: a mounted signing key; seconds: of each LoadGen scenario; rate: images per
    second in Server, None: half of the Offline rate; goal_s: the latency goal, which batches must keep."""

    policy: CertificationPolicy = "off"
    state: Path | None = None
    key: Path | None = None
    seconds: float = SECONDS
    rate: float | None = None
    goal_s: float | None = None


class CertifiedEngines(NamedTuple):
    """latency_engine, throughput_engine: open engines of the candidate `precision` (None: one engine is both); costs:
    seconds per call by its rows, once measured; checks: all must have passed before the server may answer."""

    latency_engine: Engine
    throughput_engine: Engine | None
    costs: dict[int, float]
    precision: str
    checks: tuple[Check, ...]
    certificate: Certificate | None


def open_certified_engines(
    bundle: Bundle, settings: Settings, options: CertificationOptions, say: LogLine, began: float
) -> CertifiedEngines:
    """Certify by the policy and open the engines that serve. DeviceError: an engine cannot be opened, or the key is
    missing."""
    found = _open_by_policy(bundle, settings, options, say, began)
    costs = calibrate_batches(
        found.throughput_engine or found.latency_engine,
        (bundle.digest, found.precision),
        writable_folder(options.state),
        options.goal_s,
    )
    return found._replace(costs=costs)


def _open_by_policy(
    bundle: Bundle, settings: Settings, options: CertificationOptions, say: LogLine, began: float
) -> CertifiedEngines:
    if options.policy == "off":
        return _open_checked(bundle, settings, preferred_here(bundle.manifest), None)
    if options.policy == "first":
        state = writable_folder(options.state)
        kept = load_certificate(state, bundle.digest, fingerprint(), settings.threads)
        if kept is not None and not is_signed_by(kept, signing_key(options.key, state)):
            say(f"certificate of {kept.issued_at} is signed by another device's key: making one here")
        elif kept is not None:
            found = _open_checked(bundle, settings, kept.precision, kept)
            if found.latency_engine.version == kept.engine:
                say(f"certificate of {kept.issued_at} still holds: same bundle, device and engine")
                return found
            for engine in (found.latency_engine, found.throughput_engine):
                if engine is not None:
                    engine.__exit__(None, None, None)
    made = make_certificate(bundle, settings.threads, options, say, began)
    return _open_checked(bundle, settings, made.precision, made)


def make_certificate(
    bundle: Bundle, threads: int, options: CertificationOptions, say: LogLine, began: float
) -> Certificate:
    """Make and sign a certificate, and keep it where there is a volume."""
    state = writable_folder(options.state)
    key = signing_key(options.key, state)
    if state is None:
        say(f"certificate: nowhere to keep it; mount a writable volume at {options.state or 'the state folder'}")
    made = sign_certificate(run_certify(bundle, threads, say, options.seconds, options.rate, began), key)
    try:
        save_certificate(state, made)
    except OSError as error:  # the volume is full: the certificate is valid all the same
        say(f"certificate: cannot be kept in {state} ({error.strerror}); it is made again at the next start")
    return made


def with_precision(bundle: Bundle, precision: str) -> Bundle:
    """The bundle with `precision` as the chosen one: as this device serves it."""
    return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, chosen=precision), bundle.digest)


def _open_checked(
    bundle: Bundle, settings: Settings, precision: str, certificate: Certificate | None
) -> CertifiedEngines:
    engine, crowd = serving_engines(bundle, settings, precision)
    checks = worst_by_name(check for one in (engine, crowd) if one for check in golden_checks(bundle, one, precision))
    names = {check.name for check in checks}
    more = tuple(check for check in certificate.checks if check.name not in names) if certificate else ()
    return CertifiedEngines(engine, crowd, {}, precision, (*checks, *more), certificate)


def worst_by_name(checks: Iterable[Check]) -> tuple[Check, ...]:
    """One check of each name: the first that failed, else the first."""
    found: dict[str, Check] = {}
    for check in checks:
        if check.name not in found or (found[check.name].passed and not check.passed):
            found[check.name] = check
    return tuple(found.values())
