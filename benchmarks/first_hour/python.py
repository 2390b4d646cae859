"""The public Python surface: every name documented, with an example that runs.

The examples of docs/reference/python.md run one after the other, in a copy of examples/own_model, with a real build,
image and server. Needs a Docker Engine.
"""

import os
import re
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from doctest import DocTestParser, DocTestRunner
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shutil import copy2
from tempfile import TemporaryDirectory
from types import ModuleType

from benchmarks.rows import Row, print_rows, row
from docs.generate.python import SETUP, PublicName, public_names
from toolchain.cli.console import log_to_stderr

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"
GREY28 = ("grey28", 7, (28, 28, 1), 140, 40, 60)  # as make_data.py makes them


def rows() -> list[Row]:
    names, model = public_names(), f"python-{os.getpid()}"
    with TemporaryDirectory() as folder, _own_home(Path(folder)):
        try:
            faults = run_examples(names, copy_example(Path(folder) / "own_model", model))
        finally:
            remove_traces(model)
    sound = [one.name for one in names if one.is_documented and one.name not in faults]
    note = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
    what = f"public Python surface documented, with an example that runs ({len(names)} names and methods)"
    return [row(what, 100 * len(sound) / len(names), ">=", 100, "%", note)]


def copy_example(folder: Path, name: str) -> Path:
    """A copy of examples/own_model with the images of grey28, whose recipe names its model `name`."""
    folder.mkdir(parents=True)
    for path in EXAMPLE.iterdir():
        if path.is_file():
            copy2(path, folder)
    recipe = folder / "grey28.toml"
    recipe.write_text(recipe.read_text().replace('name = "grey28"', f'name = "{name}"', 1))
    _load_module(folder / "make_data.py").make(*GREY28)
    return folder


def remove_traces(model: str) -> None:
    """The containers, images and volume of `model` on this engine, whatever became of its examples."""
    from deploy.docker.engine import connect

    with closing(connect()) as client:
        for container in client.containers.list(all=True, filters={"name": f"^/edge-{model}"}):
            container.remove(force=True)
        for image in client.images.list(filters={"reference": f"edge-{model}"}):
            client.images.remove(str(image.id), force=True)
        for volume in client.volumes.list(filters={"name": f"edge-{model}-state"}):
            volume.remove(force=True)


def run_examples(names: list[PublicName], folder: Path) -> dict[str, str]:
    """Run the example of each name in turn, in `folder`; what is wrong, by name."""
    known: dict[str, object] = {}
    faults: dict[str, str] = {}
    with chdir(folder):
        exec(SETUP, known)
        for one in names:
            if fault := _run_example(one, known):
                faults[one.name] = fault
    return faults


def _run_example(one: PublicName, known: dict[str, object]) -> str:
    if not one.example:
        return "no example"
    test = DocTestParser().get_doctest(one.example + "\n", known, one.name, None, 0)
    said: list[str] = []
    failed = DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False).failed
    known.update(test.globs)
    return re.sub(r"\s+", " ", "".join(said)).strip(" *") if failed else ""


def _load_module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _own_home(folder: Path) -> Iterator[None]:
    """A state directory below `folder`, with the wheels of this one's, which are downloaded once."""
    from toolchain.paths import HOME, home

    wheels, before = home() / "wheelhouse", os.environ.get(HOME)
    wheels.mkdir(parents=True, exist_ok=True)
    (folder / "home").mkdir()
    (folder / "home" / "wheelhouse").symlink_to(wheels)
    os.environ[HOME] = str(folder / "home")
    try:
        yield
    finally:
        os.environ.pop(HOME)
        if before is not None:
            os.environ[HOME] = before


if __name__ == "__main__":
    log_to_stderr()
    print_rows(rows())
