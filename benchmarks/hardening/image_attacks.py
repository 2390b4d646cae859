"""Image files, forms and compressed bodies that are small to send and large, slow or many to read."""

import http.client
import json
import zlib
from collections.abc import Mapping
from functools import partial

from PIL import Image

from benchmarks.hardening.address import Address, Attack, repeat
from tests.deploy.runtime.decoding.files import as_mpo, chunk, encode, many_scans, png

CONNECTIONS = 6
INFER = "/v2/models/null/infer"
TURNED = chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
IMAGE = {"Content-Type": "image/png"}


def _post_forever(address: Address, body: bytes, headers: Mapping[str, str], connections: int) -> None:
    def post() -> None:
        connection = http.client.HTTPConnection(
            address.host, address.http_port, timeout=60, source_address=address.source_address
        )
        while True:
            connection.request("POST", INFER, body, dict(headers))
            connection.getresponse().read()

    repeat(connections, post)


def large_pngs(address: Address, side: int, colours: int, more: bytes = b"") -> None:
    _post_forever(address, png(side, 8, colours, before=more), IMAGE, CONNECTIONS)


def scans(address: Address, side: int, repeats: int) -> None:
    """As an MPO, whose name kept the limit on scans from it."""
    _post_forever(address, as_mpo(many_scans(side, repeats)), IMAGE, CONNECTIONS)


def many_images(address: Address) -> None:
    """256 images in 40 kB: each request's array takes 38 MB."""
    one = png(64)
    raw = (len(one).to_bytes(4, "little") + one) * 256
    tensor = {"name": "image", "datatype": "BYTES", "shape": [256], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    _post_forever(address, head + raw, {"Inference-Header-Content-Length": str(len(head))}, 4 * CONNECTIONS)


def bombs(address: Address, size: int) -> None:
    """Compressed bodies of `size` zeros."""
    _post_forever(address, zlib.compress(bytes(size), 9), {"Content-Encoding": "deflate"}, CONNECTIONS)


def forms(address: Address, parts: int) -> None:
    part = b'--edge\r\nContent-Disposition: form-data; name="a"; filename="x"\r\n\r\n\r\n'
    _post_forever(
        address, part * parts + b"--edge--", {"Content-Type": "multipart/form-data; boundary=edge"}, CONNECTIONS
    )


def one_color(address: Address, kind: str, side: int, **options: object) -> None:
    _post_forever(address, encode(Image.new("RGB", (side, side)), kind, **options), {}, CONNECTIONS)


ATTACKS: dict[str, Attack] = {
    "PNGs of 8000 x 8000": partial(large_pngs, side=8000, colours=2),
    "the largest PNGs that are taken, turned": partial(large_pngs, side=4000, colours=6, more=TURNED),
    "an MPO of 410 scans": partial(scans, side=4000, repeats=400),
    "JPEGs of as many scans as are taken": partial(scans, side=2500, repeats=140),
    "requests of 256 images": many_images,
    "compressed bodies that become 60 MB": partial(bombs, size=60 << 20),
    "forms of 10,000 files": partial(forms, parts=10_000),
    "the largest WebP files that are taken": partial(one_color, kind="WEBP", side=2500, lossless=True, method=0),
    "the largest TIFF files that are taken": partial(one_color, kind="TIFF", side=3500, compression="tiff_lzw"),
}
