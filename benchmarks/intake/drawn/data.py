"""Image folders as they come from other systems, lists, archives, and text files in other encodings."""

import gzip
import unicodedata
from pathlib import Path
from struct import pack

import numpy as np
from PIL import Image

from benchmarks.intake.drawn.recipes import (
    CLASSES,
    PLAIN,
    IntakeCase,
    draw_arrays,
    draw_folder,
    recipe_text,
    write_recipe,
)

ACCENTED = "K\u00e4se"


def draw_data(base: Path) -> list[IntakeCase]:
    return [*_draw_folders(base), *_draw_bad_folders(base), *_draw_lists(base), *_draw_texts(base)]


def _draw_folders(base: Path) -> list[IntakeCase]:
    stray = draw_folder(base / "d-stray")
    for name in ("train/ant/Thumbs.db", "train/desktop.ini", "train/ant/._000.png", ".DS_Store"):
        (stray / name).write_bytes(b"\xd0\xcf\x11\xe0" * 8)
    for name in ("__MACOSX/train/ant", "train/__MACOSX/ant", "train/.ipynb_checkpoints", "test/ant/.ipynb_checkpoints"):
        (stray / name).mkdir(parents=True)
    (draw_folder(base / "d-valid") / "test").rename(base / "d-valid" / "valid")
    accents = draw_folder(base / "d-accents")
    (accents / "train" / "bee").rename(accents / "train" / ACCENTED)
    (accents / "test" / "bee").rename(accents / "test" / unicodedata.normalize("NFD", ACCENTED))
    for part in ("train", "test"):  # sorted as the network's outputs are
        for number, name in enumerate(("ant", ACCENTED, "cat", "dog")):
            for form in ("NFC", "NFD"):
                if (path := accents / part / unicodedata.normalize(form, name)).is_dir():
                    path.rename(path.with_name(f"{number}-{path.name}"))
                    break
    unbalanced = draw_folder(base / "d-unbalanced")
    for path in [*sorted((unbalanced / "train" / "dog").iterdir())[12:], *(unbalanced / "test" / "dog").iterdir()]:
        path.unlink()
    (unbalanced / "test" / "dog").rmdir()
    draw_folder(base / "d-bmp", "bmp")
    draw_folder(base / "d-jfif", "jfif", lambda image, path: image.save(path, "JPEG", quality=95))
    draw_folder(base / "d-webp", "webp", _save_webp)
    draw_folder(base / "d-webp-as-jpg", "jpg", _save_webp)
    draw_folder(base / "d-tiff", "tif")
    draw_folder(base / "d-grey-alpha", "png", lambda image, path: image.convert("RGBA").save(path))
    names = ("stray", "valid", "accents", "unbalanced", "bmp", "jfif", "webp", "webp-as-jpg", "tiff", "grey-alpha")
    return [_name_folder(base, IntakeCase(f"d-{name}", "builds")) for name in names]


def _draw_bad_folders(base: Path) -> list[IntakeCase]:
    cut = draw_folder(base / "d-cut", "jpg")
    for number in range(3):
        path = cut / "train" / "ant" / f"{number:03}.jpg"
        path.write_bytes(path.read_bytes()[:-300])
    notes = draw_folder(base / "d-notes")
    (notes / "train" / "ant" / "notes.txt").write_text("of ants")
    few = draw_folder(base / "d-few")
    for path in few.glob("*/*/*"):
        if int(path.stem) > 2:
            path.unlink()
    for path in draw_folder(base / "d-one").glob("*/*/*"):
        if int(path.stem):
            path.unlink()
    (draw_folder(base / "d-untested") / "test").rename(base / "d-untested-test")
    strangers = draw_folder(base / "d-strangers")
    (strangers / "test" / "dog").rename(strangers / "test" / "dogs")
    (base / "d-empty").mkdir()
    return [
        _name_folder(base, IntakeCase("d-cut", "refused", "3 of 240 files cannot be decoded")),
        _name_folder(base, IntakeCase("d-notes", "refused", "notes.txt")),
        _name_folder(base, IntakeCase("d-few", "refused", "calibration samples")),
        _name_folder(base, IntakeCase("d-one", "refused", "calibration samples")),
        _name_folder(base, IntakeCase("d-untested", "refused", "neither test/ nor val/")),
        _name_folder(base, IntakeCase("d-strangers", "refused", "no such class in train/")),
        _name_folder(base, IntakeCase("d-empty", "refused", "no class folders")),
        _name_folder(base, IntakeCase("d-absent", "refused", "no such folder")),
    ]


def _draw_lists(base: Path) -> list[IntakeCase]:
    rows = [f"{path.relative_to(base)},{path.parent.name}" for path in sorted((base / "data").glob("*/*/*"))]
    (base / "list.csv").write_bytes(b"\xef\xbb\xbfpath,label\r\n" + "\r\n".join(rows).encode())
    (base / "gone.csv").write_text("path,label\nnone.png,ant\n" + "\n".join(rows))
    images, labels = draw_arrays(200, 3)
    np.savez(base / "keras.npz", x_train=images, y_train=labels, x_test=images[:80], y_test=labels[:80])
    np.savez(base / "floats.npz", x_train=images / 255, y_train=labels)
    (base / "mnist").mkdir()
    for part, count in (("train", 200), ("t10k", 80)):
        _write_idx(base / "mnist" / f"{part}-images-idx4-ubyte.gz", images[:count])
        _write_idx(base / "mnist" / f"{part}-labels-idx1-ubyte.gz", labels[:count].astype(np.uint8))
    sources = {
        "l-csv": ("csv", "list.csv", ""),
        "l-csv-gone": ("csv", "gone.csv", "no such file in 1 rows"),
        "l-npz": ("npz", "keras.npz", ""),
        "l-npz-floats": ("npz", "floats.npz", "expected uint8"),
        "l-idx": ("idx", "mnist", ""),
    }
    return [
        write_recipe(
            base, IntakeCase(case, "refused" if says else "builds", says), data=f'name = "{name}"\npath = "{path}"'
        )
        for case, (name, path, says) in sources.items()
    ]


def _draw_texts(base: Path) -> list[IntakeCase]:
    def recipe(name: str, model: str = "") -> str:
        return recipe_text(name, f"{PLAIN}\n{model}")

    labels = "".join(f"{name}\n" for name in CLASSES)
    (base / "labels-bom.txt").write_bytes(b"\xef\xbb\xbf" + labels.replace("\n", "\r\n").encode())
    (base / "labels-utf16.txt").write_bytes(labels.encode("utf-16"))
    contents = {
        "t-bom": b"\xef\xbb\xbf" + recipe("t-bom").encode(),
        "t-crlf": recipe("t-crlf").replace("\n", "\r\n").encode(),
        "t-labels-bom": recipe("t-labels-bom", 'labels = "labels-bom.txt"').encode(),
        "t-labels-utf16": recipe("t-labels-utf16", 'labels = "labels-utf16.txt"').encode(),
        "t-cp1252": ("# Gr\u00f6\u00dfe\n" + recipe("t-cp1252")).encode("cp1252"),
        "t-utf16": recipe("t-utf16").encode("utf-16"),
    }
    for name, content in contents.items():
        (base / f"{name}.toml").write_bytes(content)
    refused = ("t-labels-utf16", "t-cp1252", "t-utf16")
    return [IntakeCase(name, "refused", "UTF-") if name in refused else IntakeCase(name, "builds") for name in contents]


def _save_webp(image: Image.Image, path: Path) -> None:
    image.save(path, "WEBP", lossless=True)


def _write_idx(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    header = bytes((0, 0, 8, array.ndim)) + pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def _name_folder(base: Path, case: IntakeCase) -> IntakeCase:
    return write_recipe(base, case, data=f'name = "folder"\npath = "{case.name}"')
