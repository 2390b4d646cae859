"""FastAPI and uvicorn, as somebody writes it by hand who knows both: no protocol, no checks, no limits, no metrics.

Best of what was tried: one process; uvloop and httptools; access log off; the body read raw, no model of pydantic's;
an `async def` that waits for OpenVINO's callback rather than one in the thread pool; the answer's bytes as they are.
"""

import uvicorn
from engine import PORT, Engine
from fastapi import FastAPI, Request, Response

app, engine = FastAPI(), Engine()


@app.post("/infer")
async def infer(request: Request) -> Response:
    return Response(await engine.answered(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", access_log=False)
