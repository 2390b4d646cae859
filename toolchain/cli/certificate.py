"""The commands that measure and certify an image on this device."""

from pathlib import Path

from toolchain.cli.choices import Scenarios


def certify(image: str, *, out: Path | None = None) -> None:
    """Let an image choose its candidate, check and measure itself on this machine, and sign the certificate.

    Args:
        image: the image's tag
        out: also write the certificate to this file, for `toolchain certificate verify`
    """
    from deploy.containers.commands import certify_image
    from toolchain.records.storage import check_output_path, encode_record, write_atomically
    from toolchain.views.bundle import as_json
    from toolchain.views.certificate import certificate_page

    if out is not None:
        check_output_path(out)
    certificate = certify_image(image)
    if out is not None:
        write_atomically(out, encode_record(certificate))
    print(certificate_page(certificate), end="\n\n")
    print(as_json({"passed": certificate.passed, "certificate": certificate}))
    if not certificate.passed:
        raise SystemExit(1)


def certificate_verify(certificate: Path, *, key: str | None = None, bundle: Path | None = None) -> None:
    """Verify a certificate's signature and its result.

    Exit status 1: the signature is not the device's, or the certificate did not pass.

    Args:
        certificate: the file that `certify --out` wrote, or a server's response at /certificate
        key: the trusted public key, in base64 or in a file; by default any device's key is accepted
        bundle: the bundle's folder that the certificate must be for
    """
    from deploy.certificates import read_certificate, read_trusted_key, verify_certificate
    from toolchain.errors import RecordError
    from toolchain.records.bundle import open_bundle
    from toolchain.views.bundle import as_json
    from toolchain.views.certificate import certificate_page

    trusted = read_trusted_key(key)
    document, content = read_certificate(certificate)
    verify_certificate(document, content, trusted)
    if bundle is not None and open_bundle(bundle).digest != content.bundle:
        raise RecordError(
            f"{certificate}: of {content.name} {content.release}, bundle {content.bundle[:12]}, not of {bundle}"
        )
    print(certificate_page(content), end="\n\n")
    whose = "the trusted key" if trusted else "this device's key; whose it is, only --key can tell"
    print(f"the signature fits: {content.key}, {whose}", end="\n\n")
    print(
        as_json(
            {
                "verified": True,
                "trusted": trusted is not None,
                "passed": content.passed,
                "key": content.key,
                "bundle": content.bundle,
                "precision": content.precision,
                "accuracy": content.accuracy,
                "issued_at": content.issued_at,
            }
        )
    )
    if not content.passed:
        raise SystemExit(1)


def bench(
    image: str, *, seconds: float = 5.0, scenarios: Scenarios = ("SingleStream", "Offline"), rate: float | None = None
) -> None:
    """Benchmark an image on this machine with MLPerf LoadGen, as it serves here, and keep the report in the ledger.

    Args:
        image: the image's tag
        seconds: how long each scenario runs
        scenarios: which to run, separated by commas
        rate: images per second in Server; by default half of Offline's
    """
    from deploy.containers.commands import bench_image
    from deploy.ledger.ledger import Ledger
    from toolchain.views.bundle import as_json, report_summary, report_table

    report = bench_image(image, seconds, ",".join(scenarios), rate)
    with Ledger() as book:
        book.record_report(report)
    print(report_table(report), end="\n\n")
    print(as_json(report_summary(report)))
