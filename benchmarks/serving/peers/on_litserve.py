"""LitServe: a raw body by way of FastAPI's own Body, for LitServe itself reads JSON and forms alone.

Best of what was tried: ZeroMQ in place of a manager's queue (fast_queue); two workers with a stream each; batches off.
"""

import os
from typing import Annotated

import litserve
from engine import PORT, Engine, Serial
from fastapi import Body, Response

ASYNC = os.environ.get("FORM") == "async"


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.engine = Serial()

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, body: bytes) -> bytes:
        return self.engine.answer(body)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/octet-stream")


class AsyncClassifier(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.engine = Engine()

    async def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    async def predict(self, body: bytes) -> bytes:
        return await self.engine.answered(body)

    async def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = AsyncClassifier(api_path="/infer", enable_async=True) if ASYNC else Classifier(api_path="/infer")
    fast = os.environ.get("FAST", "1") == "1"
    workers = 1 if ASYNC else 2
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, fast_queue=fast, timeout=False)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning", access_log=False)
