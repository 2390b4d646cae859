"""KServe's Python client, REST and gRPC: a program for the environment of requirements/peers/kserve.txt.

Arguments: REST's address, gRPC's address, the model, a PNG file of the model's own size. Prints a JSON object: the
logits by the way that they were asked for; a text where it was refused.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from PIL import Image

REST, GRPC, MODEL, FILE = sys.argv[1:]


def request(binary: bool) -> InferRequest:
    pixels = np.asarray(Image.open(FILE))[None]
    feed = InferInput("image", list(pixels.shape), "UINT8")
    feed.set_data_from_numpy(pixels, binary_data=binary)
    return InferRequest(MODEL, [feed])


async def main() -> None:
    answers: dict[str, Any] = {}

    async def ask(name: str, call: Any) -> None:
        try:
            (output,) = (await call).outputs
            answers[name] = output.as_numpy()[0].tolist()
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {error}"

    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as rest:
        await ask("REST, binary", rest.infer(REST, request(True), model_name=MODEL))
        await ask("REST, JSON", rest.infer(REST, request(False), model_name=MODEL))
    async with InferenceGRPCClient(GRPC, retries=0) as client:
        await ask("gRPC", client.infer(request(True)))
    print(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main())
