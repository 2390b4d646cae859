"""KServe's Python server: a raw body over its v1 protocol, whose decoder leaves alone what is not JSON.

Its v2 protocol makes Python lists of binary tensors (43 ms a picture of 224 x 224). Best of what was tried: one worker,
uvloop, logs of latency, timing and access off, no gRPC server beside.
"""

import logging

from engine import PORT, Engine
from kserve import Model, ModelServer


class Classifier(Model):
    def __init__(self) -> None:
        super().__init__("model")
        self.engine = Engine()
        self.ready = True

    async def predict(self, payload: bytes, headers: object = None, response_headers: object = None) -> bytes:  # noqa: ARG002
        return await self.engine.answered(payload)


if __name__ == "__main__":
    server = ModelServer(http_port=PORT, workers=1, enable_grpc=False, enable_latency_logging=False)
    for name in ("uvicorn.access", "kserve.trace"):
        logging.getLogger(name).disabled = True
    server.start([Classifier()])
