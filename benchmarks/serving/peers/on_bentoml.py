"""BentoML: a raw body into an ASGI application that is mounted beside its own routes, which read JSON, forms or files.

Best of what was tried: one worker; uvloop and httptools, which it does not bring; access log and
metrics off; no adaptive batching (its queue costs more).
"""

import bentoml
from engine import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

engine = Engine()


async def infer(request: Request) -> Response:
    return Response(await engine.answered(await request.body()), media_type="application/octet-stream")


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False}, traffic={"timeout": 60})
@bentoml.asgi_app(Starlette(routes=[Route("/infer", infer, methods=["POST"])]), path="/raw")
class Classifier:
    @bentoml.api
    async def ready(self) -> str:
        return "ready"
