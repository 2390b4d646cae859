"""The verbs that ask a device: certify, verify, bench. As thin as the other verbs (cli.py)."""

from pathlib import Path


def certify(image: str, *, out: Path | None = None) -> None:
    """Let an image choose, check and measure on this machine, with no network, and sign what it found.

    Args:
        image: the image's tag
        out: write the certificate here too, for `toolchain verify`
    """
    from deploy.containers.commands import certified
    from toolchain.records.storage import check_output_path, encode_record, write_atomically
    from toolchain.views.bundle import as_json
    from toolchain.views.certificate import certificate_page

    if out is not None:
        check_output_path(out)
    certificate = certified(image)
    if out is not None:
        write_atomically(out, encode_record(certificate))
    print(certificate_page(certificate), end="\n\n")
    print(as_json({"passed": certificate.passed, "certificate": certificate}))
    if not certificate.passed:
        raise SystemExit(1)


def verify(certificate: Path, *, key: str | None = None, bundle: Path | None = None) -> None:
    """Say whether a certificate is what a device signed, and passed; exit code 1 when it is not, or did not.

    Args:
        certificate: the file: of `certify --out`, or what a server answers at /certificate
        key: the public key that is trusted, in base64 or a file; without it any device's will do
        bundle: the bundle's folder that it must be of
    """
    from deploy.certificates import read_certificate, read_trusted_key, verify_certificate
    from toolchain.errors import RecordError
    from toolchain.records.bundle import open_bundle
    from toolchain.views.bundle import as_json
    from toolchain.views.certificate import certificate_page

    trusted = read_trusted_key(key)
    document, found = read_certificate(certificate)
    verify_certificate(document, found, trusted)
    if bundle is not None and open_bundle(bundle).digest != found.bundle:
        raise RecordError(f"{certificate}: of bundle {found.bundle[:12]}, not of {bundle}")
    print(certificate_page(found), end="\n\n")
    whose = "the trusted key" if trusted else "this device's key; whose it is, only --key can tell"
    print(f"the signature fits: {found.key}, {whose}", end="\n\n")
    print(
        as_json(
            {
                "verified": True,
                "trusted": trusted is not None,
                "passed": found.passed,
                "key": found.key,
                "bundle": found.bundle,
                "precision": found.precision,
                "accuracy": found.accuracy,
                "issued_at": found.issued_at,
            }
        )
    )
    if not found.passed:
        raise SystemExit(1)


def bench(
    image: str, *, seconds: float = 5.0, scenarios: str = "SingleStream,Offline", rate: float | None = None
) -> None:
    """Let an image measure itself by MLPerf LoadGen, as it serves on this machine; the report goes to the ledger.

    Args:
        image: the image's tag
        seconds: how long each scenario runs
        scenarios: of SingleStream, MultiStream, Server and Offline, with commas between them, or all
        rate: pictures a second in Server; half of Offline's unless given
    """
    from deploy.containers.commands import benched
    from deploy.ledger.ledger import Ledger
    from toolchain.views.bundle import as_json, report_summary, report_table

    report = benched(image, seconds, scenarios, rate)
    with Ledger() as book:
        book.record_report(report)
    print(report_table(report), end="\n\n")
    print(as_json(report_summary(report)))
