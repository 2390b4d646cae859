"""A certificate authority for tests, by the `openssl` command: real keys and certificates, made in milliseconds."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@dataclass(frozen=True)
class Issued:
    cert: Path
    key: Path


class Authority:
    """Signs for localhost and 127.0.0.1; `root` is what those who trust it read."""

    def __init__(self, folder: Path, name: str = "ours") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.root, self._key = folder, folder / f"{name}.pem", folder / f"{name}.key"
        openssl("req", "-x509", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.root, "-days", 99)

    def issue(self, name: str, days: int = 99, bits: int = 0) -> Issued:
        """days: -1: it ended yesterday. bits: of RSA; 0: an elliptic curve."""
        cert, key, asked, more = (self.folder / f"{name}{end}" for end in (".pem", ".key", ".csr", ".ext"))
        new = ("-newkey", f"rsa:{bits}", "-nodes") if bits else NEW_KEY
        openssl("req", *new, "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
        more.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signs = ("-CA", self.root, "-CAkey", self._key, "-CAcreateserial")
        openssl("x509", "-req", "-in", asked, *signs, "-days", days, "-extfile", more, "-out", cert)
        return Issued(cert, key)

    def trusting(self, shown: Issued | None = None) -> ssl.SSLContext:
        """A client's context that trusts only this authority, and shows `shown`."""
        context = ssl.create_default_context(cafile=self.root)
        if shown is not None:
            context.load_cert_chain(shown.cert, shown.key)
        return context
