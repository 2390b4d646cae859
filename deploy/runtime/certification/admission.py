"""Which candidate serves, whether it may, and the certificate that says so. Before the server is ready.

The golden samples are asked at every start. The whole certificate is made once for a bundle, a device and an engine's
version, and kept on the volume (policy `first`); at every start (`always`); or never (`off`).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from deploy.runtime.certification.certificate import SECONDS, run_certify
from deploy.runtime.certification.checks import golden_checks
from deploy.runtime.device.probe import fingerprint
from deploy.runtime.device.signing import signed, signing_key
from deploy.runtime.device.state import keep_certificate, kept_certificate, writable
from deploy.runtime.engines import Engine, Settings, serving_forms
from deploy.runtime.scheduling.batch_costs import tuned
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Certificate, Check

Policy = Literal["always", "first", "off"]
POLICIES: tuple[Policy, ...] = ("always", "first", "off")
Say = Callable[[str], None]


class Terms(msgspec.Struct, frozen=True):
    """state: the volume's folder; key: a mounted key to sign with; seconds: of each of LoadGen's scenarios; rate:
    pictures a second in Server, None: half of Offline's; goal_s: of latency, which larger calls must keep."""

    policy: Policy = "off"
    state: Path | None = None
    key: Path | None = None
    seconds: float = SECONDS
    rate: float | None = None
    goal_s: float | None = None


class Admitted(NamedTuple):
    """engine, crowd: open, of the candidate `precision`, for a request that is alone and for many (None: the same);
    costs: seconds of a call by its rows, once they are measured; checks: what must have passed before it may answer."""

    engine: Engine
    crowd: Engine | None
    costs: dict[int, float]
    precision: str
    checks: tuple[Check, ...]
    certificate: Certificate | None


def admitted(bundle: Bundle, settings: Settings, terms: Terms, say: Say, began: float) -> Admitted:
    """Open the engine that is to serve. DeviceError: it cannot be opened here, or there is no such key."""
    found = _chosen(bundle, settings, terms, say, began)
    costs = tuned(found.crowd or found.engine, (bundle.digest, found.precision), writable(terms.state), terms.goal_s)
    return found._replace(costs=costs)


def _chosen(bundle: Bundle, settings: Settings, terms: Terms, say: Say, began: float) -> Admitted:
    if terms.policy == "off":
        return _opened(bundle, settings, bundle.manifest.chosen, None)
    if terms.policy == "first":
        kept = kept_certificate(writable(terms.state), bundle.digest, fingerprint(), settings.threads)
        if kept is not None:
            found = _opened(bundle, settings, kept.precision, kept)
            if found.engine.version == kept.engine:
                say(f"certificate of {kept.issued_at} still holds: same bundle, device and engine")
                return found
            for engine in (found.engine, found.crowd):
                if engine is not None:
                    engine.__exit__(None, None, None)
    made = certified(bundle, settings.threads, terms, say, began)
    return _opened(bundle, settings, made.precision, made)


def certified(bundle: Bundle, threads: int, terms: Terms, say: Say, began: float) -> Certificate:
    """Made, signed and kept where there is a volume."""
    state = writable(terms.state)
    key = signing_key(terms.key, state)
    if state is None:
        say(f"certificate: nowhere to keep it; mount a volume that {terms.state or 'the server'} may write")
    made = signed(run_certify(bundle, threads, say, terms.seconds, terms.rate, began), key)
    try:
        keep_certificate(state, made)
    except OSError as error:  # a full volume: the certificate holds all the same
        say(f"certificate: cannot be kept in {state} ({error.strerror}); it is made again at the next start")
    return made


def serving(bundle: Bundle, precision: str) -> Bundle:
    """The bundle as this device serves it."""
    return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, chosen=precision), bundle.digest)


def _opened(bundle: Bundle, settings: Settings, precision: str, certificate: Certificate | None) -> Admitted:
    engine, crowd = serving_forms(bundle, settings, precision)
    checks = worst(check for one in (engine, crowd) if one for check in golden_checks(bundle, one, precision))
    names = {check.name for check in checks}
    more = tuple(check for check in certificate.checks if check.name not in names) if certificate else ()
    return Admitted(engine, crowd, {}, precision, (*checks, *more), certificate)


def worst(checks: Iterable[Check]) -> tuple[Check, ...]:
    """One check of each name: the first that failed, else the first."""
    found: dict[str, Check] = {}
    for check in checks:
        if check.name not in found or (found[check.name].passed and not check.passed):
            found[check.name] = check
    return tuple(found.values())
