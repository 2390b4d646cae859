"""Mutates bytes and JSON slightly with a seeded random.Random: the same seed gives the same flaw. Knows no protocol."""

import json
from copy import deepcopy
from random import Random
from typing import Any

TOKENS = (
    *(b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
    *(b"\r\n", b"\n", b"\r\n\r\n", b"0", b"-1", b"9" * 40, b"1e999", b"NaN", b"\\ud800", b"\xed\xa0\x80", b'"'),
    *(b"[" * 2000, b"{", b"}", b"]", b",", b":", b"null", b"%00", b"%ff%fe", b"../../", b"A" * 5000),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 255, 256, 0.5, -0.0, 1e308, 1 << 31, (1 << 31) - 1, 1 << 62, (1 << 63) - 1, 1 << 63),
    *((1 << 64) - 1, 1 << 64, 10**400, "", " ", "x" * 3000, "\0", "\ud800", "\u202e\n", "image", "logits", "UINT8"),
    *("FP32", "FP16", "BYTES", "BF16", "INT64", "1", [], [[]], {}, [None], [-1, 8, 8, 3], [0, 8, 8, 3], [1 << 40] * 4),
    *([1, 8, 8, 3], [1, 3, 8, 8], [33, 8, 8, 3], [1], [1] * 100, {"": {}}, ["!"], ["AAAA"], float("nan"), float("inf")),
)
NAMES = (
    *("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "binary_data_size", "binary_data"),
    *("binary_data_output", "classification", "timeout", "timings", "priority", "sequence_id", "parameters", "data"),
    *("name", "datatype", "shape", "id", "inputs", "outputs", "key", "offset", "byte_size", ""),
)


def mutate_bytes(content: bytes, chance: Random, most: int = 4) -> bytes:
    """One to `most` flaws: bits turned, pieces lost, doubled, moved, or replaced by what parsers stumble over."""
    mutated = bytearray(content)
    for _ in range(chance.randint(1, most)):
        at = chance.randrange(len(mutated) + 1)
        end = min(len(mutated), at + chance.choice((1, 1, 2, 4, 16, 200)))
        match chance.randrange(7):
            case 0 if at < len(mutated):
                mutated[at] ^= 1 << chance.randrange(8)
            case 1:
                mutated[at:at] = chance.choice(TOKENS)
            case 2:
                del mutated[at:end]
            case 3:
                mutated[at:at] = mutated[at:end] * chance.choice((1, 2, 50))
            case 4:
                mutated[at:end] = chance.randbytes(end - at)
            case 5:
                mutated[at:end] = chance.choice(TOKENS)
            case _ if chance.random() < 0.3:
                del mutated[at:]
    return bytes(mutated)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) inside."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    nodes = [(value, key) for key in keys]
    for _, key in tuple(nodes)[:20]:
        nodes += places(value[key])
    return nodes


def mutate_json(value: Any, chance: Random, most: int = 3) -> Any:
    """A JSON value with one to `most` members wrong, added or missing."""
    value = deepcopy(value)
    for _ in range(chance.randint(1, most)):
        inside = places(value)
        if not inside:
            return deepcopy(chance.choice(VALUES))
        container, key = chance.choice(inside)
        match chance.randrange(5):
            case 0 if isinstance(container, dict):
                del container[key]
            case 1 if isinstance(container, dict):
                container[chance.choice(NAMES)] = deepcopy(chance.choice(VALUES))
            case 2 if isinstance(container, list):
                container.append(deepcopy(container[key]))
            case 3:
                container[key] = [deepcopy(container[key])] * chance.choice((1, 2, 40))
            case _:
                container[key] = deepcopy(chance.choice(VALUES))
        if not isinstance(value, dict | list):
            break
    return value


def encode_json(value: Any, chance: Random) -> bytes:
    """JSON, sometimes with damaged bytes; surrogates stay escaped or become bytes that are not valid UTF-8."""
    escaped = chance.random() < 0.7
    text = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    return mutate_bytes(text, chance, 2) if chance.random() < 0.25 else text
