"""The public Python surface, as a page: what `import toolchain as edge` offers, read from signatures and docstrings."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import toolchain
from docs.generate.markdown import code, fence, page, table
from toolchain.api.build import build_bundle
from toolchain.api.search import search_recipes

ABOUT = """```python
import toolchain as edge

bundle = edge.build("recipe.toml", target="openvino")
with bundle.image().run(port=8080) as server:
    print(server.predict("picture.jpg").label)
```

Python can do what [the command line](cli.md) does, by the same workflows. The names on this page are public and keep
their meaning; everything else in `toolchain` and `deploy` is private. Importing the package loads no library: each name
brings its own when it is first used.

What goes wrong is raised as one of [`edge.errors`](errors.md), with the one line that the command would print. In a
notebook and on a terminal long work shows its progress; bundles and gates show themselves there as tables and plots.
`examples/own_model/notebook.ipynb` goes from a recipe to a prediction."""
RUNS = """The examples run one after the other, in a copy of `examples/own_model` with its images made, after these
lines; a test runs them all (`tests/api/test_examples.py`)."""
SPECS = "Its fields are the keys of [the recipe](recipe.md), whose page describes each."
STRUCTS = {
    "Recipe": "A recipe as a value.",
    "ModelSpec": "A recipe's [model].",
    "InputSpec": "A recipe's [input].",
    "DataSpec": "A recipe's [data].",
    "CalibrationSpec": "A recipe's [calibration].",
    "BuildSpec": "A recipe's [build].",
    "SearchSpec": "A recipe's [search].",
    "errors": "The kinds of errors.",
}
# what every example below may use; they run one after the other, in a copy of examples/own_model with its images made
SETUP = """
import numpy as np
import PIL.Image
import toolchain as edge

picture = "data/grey28/test/angle_000/0000.png"
pixels = np.asarray(PIL.Image.open(picture))
"""
# of names whose own modules know nothing of this surface
_SPECS = {
    "ModelSpec": 'model = edge.ModelSpec(source="nets.py:grey28", weights="grey28.safetensors")',
    "InputSpec": "size = edge.InputSpec(height=28, width=28, channels=1, mean=(0.5,), std=(0.25,))",
    "DataSpec": 'data = edge.DataSpec(name="folder", path="data/grey28")',
    "CalibrationSpec": "calibration = edge.CalibrationSpec(data=data)",
    "BuildSpec": "budget = edge.BuildSpec(max_accuracy_loss=1.0)",
    "SearchSpec": "space = edge.SearchSpec(channel_ratio=(0.2, 0.6), epochs=(1, 3))",
}
EXAMPLES: Mapping[str, str] = {
    **{name: f">>> {code}" for name, code in _SPECS.items()},
    "Recipe": """\
>>> recipe = edge.Recipe(name="grey28", model=model, input=size, data=data, build=budget)
>>> edge.build(recipe, target="null").target
'null'""",
    "errors": """\
>>> try:
...     edge.build("nowhere.toml")
... except edge.errors.ToolchainError as error:
...     print(error)
nowhere.toml: no recipe here (No such file or directory); see recipes/ for examples""",
}
CALLED_PACKAGES: Mapping[str, Any] = {"build": build_bundle, "search": search_recipes}  # what calling them calls
CALLED = ("Image", "Client")  # classes that users make themselves
SECTION = re.compile(r"^(Args|Attributes|Raises|Example):$", re.MULTILINE)
ENTRY = re.compile(r"^    ([\w.]+): (.*)$")


@dataclass(frozen=True)
class PublicName:
    """name: `Client.predict`; sections: what the docstring says below Args, Attributes and Raises, by entry; fields:
    properties by name; example: code of an interpreter's session, "" where there is none."""

    name: str
    signature: str
    text: str
    sections: Mapping[str, Mapping[str, str]]
    fields: Mapping[str, str]
    example: str

    @property
    def is_documented(self) -> bool:
        return bool(self.text)


def python_page() -> str:
    names = public_names()
    rows = [(f"[{code(f'edge.{one.name}')}](#{_anchor(one.name)})", _summary(one)) for one in names]
    parts = [part for one in names for part in _section(one)]
    return page(
        "Python",
        "the signatures and docstrings behind toolchain/__init__.py",
        ABOUT,
        table(("name", "what it is"), rows),
        "## Examples",
        RUNS,
        fence(SETUP, "python"),
        *parts,
    )


def _anchor(name: str) -> str:
    return f"edge{name}".replace(".", "").lower()


def _summary(one: PublicName) -> str:
    if one.name in STRUCTS:
        return STRUCTS[one.name]
    text = " ".join(one.text.partition("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".:") + "."


def _section(one: PublicName) -> Iterator[str]:
    yield f"{'###' if '.' in one.name else '##'} edge.{one.name}"
    if one.name == "errors":
        yield "The kinds of errors: [Exit codes and errors](errors.md)."
    elif one.name in STRUCTS:
        yield f"{STRUCTS[one.name]} {SPECS}"
    else:
        yield one.text
    if one.signature:
        yield fence(one.signature, "python")
    for title, words in (("argument", "Args"), ("attribute", "Attributes"), ("error", "Raises")):
        if entries := one.sections.get(words):
            yield table((title, "meaning"), ((code(name), text) for name, text in entries.items()))
    if one.fields and one.name not in STRUCTS:
        yield table(("property", "meaning"), ((code(name), text) for name, text in one.fields.items()))
    yield fence(one.example, "python") if one.example else ""


def public_names() -> list[PublicName]:
    """Every public name with its public methods behind it, in the order in which a story would use them."""
    return [found for name in toolchain.__all__ for found in _with_methods(name, _resolve(name))]


def _resolve(name: str) -> Any:
    return CALLED_PACKAGES.get(name) or getattr(toolchain, name)


def _with_methods(name: str, thing: Any) -> Iterator[PublicName]:
    yield _describe(name, thing)
    if inspect.isclass(thing) and thing.__module__.startswith("toolchain.api"):
        for member, value in vars(thing).items():
            function = value.__func__ if isinstance(value, classmethod) else value
            if not member.startswith("_") and inspect.isfunction(function):
                yield _describe(f"{name}.{member}", getattr(thing, member))


def _describe(name: str, thing: Any) -> PublicName:
    text, sections, example = _split(inspect.getdoc(thing) or "")
    fields = {
        member: (inspect.getdoc(value) or "")
        for member, value in (vars(thing).items() if inspect.isclass(thing) else ())
        if isinstance(value, property) and not member.startswith("_")
    }
    return PublicName(name, _signature(name, thing), text, sections, fields, EXAMPLES.get(name, example))


def _split(text: str) -> tuple[str, dict[str, dict[str, str]], str]:
    parts = SECTION.split(text)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    example = dedent(sections.pop("Example", "").strip("\n"))
    return parts[0].strip(), {title: _entries(body) for title, body in sections.items()}, example.strip()


def _entries(body: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in body.splitlines():
        if entry := ENTRY.match(line):
            name = entry[1]
            found[name] = entry[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


def _signature(name: str, thing: Any) -> str:
    """As it is called; none for what is not called by users: records, and what other calls return."""
    if not callable(thing) or (inspect.isclass(thing) and name not in CALLED):
        return ""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.name != "self"
    ]
    result = "" if inspect.isclass(thing) else f" -> {_type_text(thing.__annotations__.get('return'))}"
    return f"edge.{name}{inspect.Signature(parameters)}{result}"


def _type_text(annotation: Any) -> str:
    """The annotation by public names, without their modules."""
    shown = annotation.__name__ if inspect.isclass(annotation) else str(annotation)
    return re.sub(r"(?:toolchain|typing|collections)[\w.]*\.(\w+)", r"\1", shown).replace("BuiltBundle", "Bundle")
