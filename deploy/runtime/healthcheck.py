"""Is this container's server ready? A script for the image's HEALTHCHECK: prints the reply and exits with 0 or 1.

It imports nothing of this project and little of Python, since it runs every half minute on a device that has other
work. Health needs neither a token nor a client certificate (access.py). The server's certificate is not verified: this
is the container's own server on loopback, and the only question is whether it answers.
"""

import os
import socket
import sys

TIMEOUT_S = 2.0
REQUEST = b"GET /v2/health/ready HTTP/1.0\r\n\r\n"


def read_reply(connection: socket.socket) -> bytes:
    connection.sendall(REQUEST)
    found = b""
    while block := connection.recv(4096):
        found += block
    return found


def read_tls_reply(connection: socket.socket) -> bytes:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(connection) as wrapped:
        return read_reply(wrapped)


def query(host: str, port: int) -> bytes:
    """Over TLS where the environment configures it, or where plain HTTP gets no answer: flags may have configured
    it."""
    for ask in (read_tls_reply,) if os.environ.get("TLS_CERT") else (read_reply, read_tls_reply):
        try:
            with socket.create_connection((host, port), TIMEOUT_S) as connection:
                found = ask(connection)
        except OSError as error:
            found = str(error).encode()
        if found.startswith(b"HTTP/"):
            break
    return found


def main() -> int:
    host = os.environ.get("HOST", "")
    found = query("127.0.0.1" if host in ("", "0.0.0.0", "::") else host, int(os.environ.get("PORT") or 8080))
    head, _, body = found.decode(errors="replace").partition("\r\n\r\n")
    good = head.startswith("HTTP/1.1 200 ")
    print(" ".join((body or head).split())[:300], file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
