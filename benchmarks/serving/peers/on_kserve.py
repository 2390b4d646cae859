"""KServe's Python server, in two ways: a raw body over its v1 protocol, whose decoder leaves alone what is no JSON; and
gRPC with raw contents, which is the fastest within the Open Inference Protocol.

Over HTTP that protocol makes Python lists of binary tensors (43 ms a picture of 224 x 224). Best of what was tried: one
worker; uvloop, which it asks for but does not get by itself; logs of latency, timing and access off.
"""

import asyncio
import logging

import numpy as np
import uvloop
from engine import PORT, Engine
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Classifier(Model):
    def __init__(self) -> None:
        super().__init__("model")
        self.engine = Engine()
        self.ready = True

    async def predict(
        self,
        payload: bytes | InferRequest,
        headers: object = None,  # noqa: ARG002  # KServe's signature
        response_headers: object = None,  # noqa: ARG002  # KServe's signature
    ) -> bytes | InferResponse:
        if isinstance(payload, bytes):
            return await self.engine.answered(payload)
        answer = await self.engine.answered(payload.inputs[0].as_numpy())
        logits = np.frombuffer(answer, np.float32)[None]
        output = InferOutput("logits", list(logits.shape), "FP32")
        output.set_data_from_numpy(logits)
        return InferResponse(payload.id, self.name, [output])


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    server = ModelServer(http_port=PORT, grpc_port=PORT + 1, workers=1, enable_latency_logging=False)
    for name in ("uvicorn.access", "kserve.trace"):
        logging.getLogger(name).disabled = True
    server.start([Classifier()])
