"""Access control of a release in a cluster: Secrets by name, never their contents, and an optional admin port.

The keys of a Secret are the file names that `toolchain run --secrets` takes, so that it can be created from such a
folder.
"""

import re
from dataclasses import dataclass
from typing import Any

from deploy.containers.secrets import CERT, CLIENT_CA, KEY, SECRETS_PATH, TOKENS, secret_environment
from deploy.runtime.http.access import check_port
from toolchain.errors import UsageError

SECRET_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # RFC 1123
HTTP_PORT, GRPC_PORT = 8080, 8081
MODE = 0o440  # root's and the pod's group's
# who scrapes, where kube-prometheus puts it
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
Object = dict[str, Any]


@dataclass(frozen=True)
class ClusterAccess:
    """tls, client_ca, tokens: names of Secrets, which may coincide; "": off. admin_port: None for no separate port."""

    tls: str = ""
    client_ca: str = ""
    tokens: str = ""
    admin_port: int | None = None

    @property
    def scheme(self) -> str:
        """The URL scheme, which is also the name of the port."""
        return "https" if self.tls else "http"

    @property
    def _secret_by_file(self) -> dict[str, str]:
        """File -> Secret."""
        secrets = {CERT: self.tls, KEY: self.tls, CLIENT_CA: self.client_ca, TOKENS: self.tokens}
        return {name: secret for name, secret in secrets.items() if secret}

    @property
    def environment(self) -> list[Object]:
        variables = secret_environment(tuple(self._secret_by_file))
        if self.admin_port is not None:
            variables["ADMIN_PORT"] = str(self.admin_port)
        return [{"name": name, "value": value} for name, value in variables.items()]

    @property
    def volumes(self) -> list[Object]:
        secrets = sorted(set(self._secret_by_file.values()))
        sources = [{"secret": {"name": secret, "items": self._items(secret)}} for secret in secrets]
        return [{"name": "secrets", "projected": {"defaultMode": MODE, "sources": sources}}] if sources else []

    def _items(self, secret: str) -> list[Object]:
        return [{"key": name, "path": name} for name, holder in self._secret_by_file.items() if holder == secret]

    @property
    def mounts(self) -> list[Object]:
        return [{"name": "secrets", "mountPath": SECRETS_PATH, "readOnly": True}] if self._secret_by_file else []

    @property
    def ports(self) -> list[Object]:
        ports = {self.scheme: HTTP_PORT, "grpc": GRPC_PORT}
        if self.admin_port is not None:
            ports["admin"] = self.admin_port
        return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()]

    def probe(self, path: str) -> Object:
        """A probe needs neither token nor certificate; on the admin port it does not compete with clients."""
        request: Object = {"path": path, "port": self.admin_port or HTTP_PORT}
        return {"httpGet": {**request, "scheme": "HTTPS"} if self.tls else request}

    @property
    def ingress(self) -> list[Object]:
        """Clients from anywhere; the admin port only from the monitoring namespace."""
        rules: list[Object] = [{"ports": [{"port": name, "protocol": "TCP"} for name in (self.scheme, "grpc")]}]
        if self.admin_port is not None:
            rules.append({"from": [MONITORING], "ports": [{"port": "admin", "protocol": "TCP"}]})
        return rules

    def scrape_endpoint(self, name: str) -> Object:
        """An endpoint for a PodMonitor. Prometheus reads its credentials and CA from a Secret NAME-monitor: ca.crt,
        token, tls.crt and tls.key. The certificate of the pods is for the host NAME."""
        endpoint: Object = {
            "port": self.scheme if self.admin_port is None else "admin",
            "path": "/metrics",
            "interval": "15s",
        }
        secret = f"{name}-monitor"
        if self.tls:
            endpoint["scheme"] = "https"
            endpoint["tlsConfig"] = {"ca": {"secret": {"name": secret, "key": "ca.crt"}}, "serverName": name}
        if self.client_ca:
            endpoint["tlsConfig"]["cert"] = {"secret": {"name": secret, "key": "tls.crt"}}
            endpoint["tlsConfig"]["keySecret"] = {"name": secret, "key": "tls.key"}
        if self.tokens:
            endpoint["authorization"] = {"credentials": {"name": secret, "key": "token"}}
        return endpoint


OPEN_ACCESS = ClusterAccess()


def access_from_flags(
    tls: str | None, client_ca: str | None, tokens: str | None, admin_port: int | None
) -> ClusterAccess:
    """The access that command-line flags ask for. UsageError for an invalid flag."""
    for flag, name in (("--tls-secret", tls), ("--client-ca-secret", client_ca), ("--token-secret", tokens)):
        if name is not None and not SECRET_NAME.fullmatch(name):
            raise UsageError(f"{flag}={name}: expected the name of a Secret: lower-case letters, digits, - and .")
    if client_ca and not tls:
        raise UsageError(f"--client-ca-secret={client_ca}: client certificates need TLS; add --tls-secret=NAME")
    check_port("--admin-port", admin_port)
    if admin_port in (0, HTTP_PORT, GRPC_PORT):
        raise UsageError(f"--admin-port={admin_port}: expected a port of its own, such as 9090")
    return ClusterAccess(tls or "", client_ca or "", tokens or "", admin_port)
