"""TLS for gRPC from the same files as for HTTP; a renewed certificate needs no restart here either."""

import grpc

from deploy.runtime.security.reload import file_stamps
from deploy.runtime.security.tls import TlsFiles, server_context
from toolchain.errors import UsageError


class CertificateFiles:
    """poll() is called by gRPC when a client connects: None while the files are unchanged or unusable (access.Secrets
    watches the same files and logs that)."""

    def __init__(self, tls: TlsFiles) -> None:
        self._tls, self._stamp = tls, file_stamps(tls.files)

    def poll(self) -> grpc.ServerCertificateConfiguration | None:
        found = file_stamps(self._tls.files)
        if found == self._stamp:
            return None
        self._stamp = found
        try:
            server_context(self._tls)
            return self.read()
        except (OSError, UsageError):
            return None

    def read(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        pair = (tls.key.read_bytes(), tls.cert.read_bytes())
        authorities = tls.client_ca.read_bytes() if tls.client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities)


def server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """From files that access.Secrets has checked. With client authorities, every client needs a certificate."""
    pair = CertificateFiles(tls)
    return grpc.dynamic_ssl_server_credentials(pair.read(), pair.poll, tls.client_ca is not None)
