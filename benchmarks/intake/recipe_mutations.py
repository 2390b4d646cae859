"""Wrong recipes of a right one: a seeded random.Random deletes, renames, adds and changes keys, puts values of other
types and paths of other files, and damages the text. The same number gives the same recipe.

Knows the shape of a recipe as TOML; knows nothing of what a build makes of it.
"""

from copy import deepcopy
from random import Random
from typing import Any

import tomli_w

from benchmarks.soak.mutations import mutate_bytes, places

Document = dict[str, Any]
RECIPE: Document = {
    "name": "mutated",
    "model": {"source": "net.py:build", "weights": "random"},
    "input": {"height": 8, "width": 8, "channels": 3, "mean": [0.5], "std": [0.25]},
    "data": {"name": "folder", "path": "images"},
    "step": [{"quantize": {"samples": 8}}],
    "build": {"max_accuracy_loss": 100.0, "precisions": ["fp32", "int8"]},
    "target": {"null": {"delay_ms": 0.0}},
}
# files of other kinds beside the recipe (recipe_runs.py writes them), and what is no file
PATHS = (
    *("", ".", "..", "/", "images", "images/train", "missing", "net.py", "net.py:", "net.py:missing", "net.py:number"),
    *("net.py:failing", "bad.py:build", "noise.bin", "noise.pt", "noise.onnx", "noise.pt2", "noise.safetensors"),
    *("labels.txt", "labels-utf16.txt", "labels-cp1252.txt", "labels-bom.txt", "empty", "empty-folder", "/dev/null"),
    *("x" * 300, "a\0b", "ö/ü.pt", "net.py:build:build", "torchvision:", "torchvision:resnet", "cifar:resnet8", "~/x"),
    *("images/train/ant/0.png", "../../../../etc/passwd", "https://example.org/x.pt", "net .py:build", "\n", "-x"),
)
VALUES: tuple[Any, ...] = (
    *(True, False, 0, 1, -1, 2, 3, 255, 1 << 31, (1 << 63) - 1, -(1 << 63), 1 << 70, 10**400, 0.0, 0.5, -0.5, 1e308),
    *(float("nan"), float("inf"), -float("inf"), 1e-320, "", "own", "random", "official", "folder", "cifar10", "int8"),
    *([], [[]], {}, {"": {}}, [1, "a"], [0.5, 0.5, 0.5], [0.0], ["fp32"], ["int8", "int8"], ["fp64"], [128.0], [-1]),
    *({"quantize": {}}, {"name": "folder", "path": "missing"}, 8, 16, 100_000, "8", "0.5", "\u202e", "💥" * 50),
)
STEPS: tuple[Document, ...] = (
    *({"quantize": {}}, {"quantize": {"samples": 0}}, {"quantize": {"samples": 8, "max_drop": 1.0}}, {"quantise": {}}),
    *({"quantize": {"preset": "x"}}, {"quantize": {"dynamic": True}}, {"quantize_weights": {"bits": 4}}, {"": {}}, {}),
    *({"quantize_weights": {"bits": 3}}, {"prune_channels": {"ratio": 0.5, "round_to": 1}}, {"prune_channels": {}}),
    *({"prune_channels": {"ratio": 0.99, "round_to": 1}}, {"prune_channels": {"macs_times_fewer": 100.0}}),
    *({"prune_channels": {"ignore": ["nothing"]}}, {"prune_blocks": {}}, {"sparsify": {}}, {"sparsify": {"x": 1}}),
    *({"sparsify": {"sparsity": 0.5}}, {"finetune": {"epochs": "1"}}, {"finetune": {"epochs": -1}}, {"qat": 3}),
    *({"distill": {"teachers": [{"source": "missing.onnx"}], "epochs": 1}}, {"quantize": {}, "qat": {}}, {"exec": "x"}),
)
ENCODINGS = ("utf-16", "utf-8-sig", "utf-32", "cp1252", "latin-1", "utf-16-le")
TEXTS = (
    "a = " + "[" * 3000,
    "\0",
    "[model",
    "x = 1\nx = 2",
    '"""',
    "[[step]]\n" * 200,
    "a.b.c.d = 1",
    "name = 'again'",
)


def mutated_recipe(number: int) -> bytes:
    """The recipe of this number: one to three flaws, or a damaged text, or another encoding."""
    chance = Random(number)
    document = deepcopy(RECIPE)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _mutate(document, chance)
    content = _encode(document)
    match chance.randrange(10):
        case 0:
            return mutate_bytes(content, chance)
        case 1:
            return f"# Größe {number}\r\n{content.decode()}".encode(chance.choice(ENCODINGS), errors="replace")
        case 2:
            lines = content.decode().splitlines()
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(TEXTS))
            return "\n".join(lines).encode()
    return content


def _encode(document: Document) -> bytes:
    """TOML has no null byte and no lone surrogate; numbers beyond its 64 bits are written all the same."""
    return tomli_w.dumps(document).encode()


def _mutate(document: Document, chance: Random) -> None:
    container, key = chance.choice(places(document))
    is_table = isinstance(container, dict)
    match chance.choice((0, 1, 2, 3, 4, 4, 4, 5, 6, 6, 6, 7)):  # steps and files pass the reader, and meet the rest
        case 0:
            del container[key]
        case 1 if is_table:
            container[_misspell(key, chance)] = container.pop(key)
        case 2 if is_table:
            container[chance.choice(("epochs", "ration", "__class__", "", "a b", "größe", "path"))] = _value(chance)
        case 3:
            container[key] = chance.choice(PATHS)
        case 4:
            document["step"] = [deepcopy(chance.choice(STEPS)) for _ in range(chance.choice((1, 1, 2)))]
        case 5:
            other, at = chance.choice(places(document))
            container[key] = deepcopy(other[at])
        case 6:
            for table, name in (("model", "weights"), ("model", "source"), ("model", "labels"), ("data", "path")):
                if isinstance(document.get(table), dict) and chance.random() < 0.4:
                    document[table][name] = chance.choice(PATHS)
        case _:
            container[key] = _value(chance)


def _value(chance: Random) -> Any:
    return deepcopy(chance.choice(VALUES))


def _misspell(key: str, chance: Random) -> str:
    at = chance.randrange(len(key) + 1)
    return chance.choice((key[:at] + key[at + 1 :], key[:at] + "x" + key[at:], key.upper(), f"{key} "))
