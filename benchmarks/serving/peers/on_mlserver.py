"""MLServer: a custom handler that takes the raw body, outside the Open Inference Protocol.

Within the protocol it has no binary tensors over HTTP (base64 in JSON is half as fast), and its gRPC unpacks raw
contents to lists. Best of what was tried: no parallel workers, no metrics, no compressed answers; uvloop, and
httptools, which it does not bring.
"""

import asyncio

from engine import PORT, Engine
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop
from starlette.requests import Request
from starlette.responses import Response


class Classifier(MLModel):
    async def load(self) -> bool:
        self.engine = Engine()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        raise NotImplementedError("the raw handler is what is measured")

    @custom_handler(rest_path="/infer")
    async def infer(self, request: Request) -> Response:
        return Response(await self.engine.answered(await request.body()), media_type="application/octet-stream")


async def main() -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=PORT,
        grpc_port=PORT + 1,
        parallel_workers=0,
        metrics_endpoint=None,
        gzip_enabled=False,
        debug=False,
    )
    await MLServer(settings).start([ModelSettings(name="model", implementation=Classifier)])


if __name__ == "__main__":
    install_uvloop_event_loop()
    asyncio.run(main())
