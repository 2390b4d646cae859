"""tritonclient's ways to send one image, as a program: gevent and grpcio change the process that they are in.

Arguments: http or grpc, the server's address, the model, a PNG file of the model's own size. Prints a JSON object: the
logits by the way that they were asked for; a text where it was refused.
"""

import io
import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
from PIL import Image

PROTOCOL, ADDRESS, MODEL, FILE = sys.argv[1:]
library: Any = import_module(f"tritonclient.{PROTOCOL}")
CODINGS = ("gzip", "deflate")


def tensor(content: Any, datatype: str, **options: Any) -> Any:
    feed = library.InferInput("image", list(content.shape), datatype)
    feed.set_data_from_numpy(content, **options)
    return feed


def infer_by_stream(client: Any, feed: Any) -> Any:
    replies: Queue[Any] = Queue()
    client.start_stream(lambda result, error: replies.put(error or result))
    client.async_stream_infer(MODEL, [feed])
    try:
        return replies.get(timeout=60)
    finally:
        client.stop_stream()


def ways(client: Any) -> dict[str, Callable[[], Any]]:
    image = Path(FILE).read_bytes()
    pixels = np.asarray(Image.open(io.BytesIO(image)))[None]
    plain, encoded = tensor(pixels, "UINT8"), tensor(np.array([image], np.object_), "BYTES")
    infer = partial(client.infer, MODEL)
    found = {"tensor": partial(infer, [plain]), "image file": partial(infer, [encoded])}
    if PROTOCOL == "grpc":
        packed = {coding: partial(infer, [plain], compression_algorithm=coding) for coding in CODINGS}
        return {**found, **packed, "stream": partial(infer_by_stream, client, plain)}
    for coding in CODINGS:
        both = {f"{side}_compression_algorithm": coding for side in ("request", "response")}
        found[coding] = partial(infer, [plain], **both)
    return {**found, "numbers as JSON": partial(infer, [tensor(pixels, "UINT8", binary_data=False)])}


def main() -> None:
    answers: dict[str, Any] = {}
    client = library.InferenceServerClient(ADDRESS)
    for name, ask in ways(client).items():
        try:
            answers[name] = ask().as_numpy("logits")[0].tolist()
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
