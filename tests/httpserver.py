"""An HTTP server of Python's own for tests, in a thread; its handler says what it answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


class Silent(BaseHTTPRequestHandler):
    """Writes no log."""

    def log_message(self, format: str, *words: object) -> None:
        pass


@contextmanager
def served(handler: type[Silent]) -> Iterator[str]:
    """Its address."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
