"""LitServe: a raw body by way of FastAPI's own Body, for LitServe itself reads JSON and forms alone.

Best of what was tried: ZeroMQ in place of a manager's queue (fast_queue); two workers with a stream each rather than
one that awaits both; batches off.
"""

from typing import Annotated

import litserve
from engine import PORT, Serial
from fastapi import Body, Response

WORKERS = 2


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's signature
        self.engine = Serial()

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, body: bytes) -> bytes:
        return self.engine.answer(body)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = Classifier(api_path="/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True, timeout=False)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning", access_log=False)
