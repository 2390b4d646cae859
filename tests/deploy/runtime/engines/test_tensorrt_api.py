"""Does every name of TensorRT's that our code touches exist, in TensorRT for RTX and in TensorRT 11.4?

The names are read from our sources, by what the variable stands for. Classic TensorRT's bindings are in the registry,
its library is not: stub libraries with the nine symbols that the bindings look for let them be imported and looked at.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from tests.house.tree import ROOT

SOURCES = ("deploy/runtime/engines/tensorrt.py", "deploy/runtime/engines/tensorrt_plan.py")
# a variable's name, without a leading underscore -> what of TensorRT's it is; "" is the module
MEANT = {
    "trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "plan": "ICudaEngine",
    "inspector": "EngineInspector",
    "context": "IExecutionContext",
    "runtime": "Runtime",
}
RUNTIME_CONFIG = {"create_runtime_cache", "set_runtime_cache", "cuda_graph_strategy"}  # `config` of an engine
RTX_ONLY = {
    "IBuilderConfig": {"num_compute_capabilities", "set_compute_capability"},
    "IRuntimeConfig": RUNTIME_CONFIG,
    "Runtime": {"get_engine_validity", "engine_header_size"},
    "": {"ComputeCapability", "CudaGraphStrategy", "EngineValidity", "EngineInvalidityDiagnostics"},
}
LIBRARIES = ("libnvinfer.so.11", "libnvonnxparser.so.11", "libnvinfer_plugin.so.11")
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
)
LOOK = """
import ctypes, importlib, json, sys
for library in sys.argv[2:]:
    ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
module = importlib.import_module(sys.argv[1])
names = {"": dir(module)} | {name: dir(getattr(module, name)) for name in dir(module) if name[0].isupper()}
print(json.dumps({"version": module.__version__, "names": names}))
"""


def touched() -> set[tuple[str, str]]:
    """(class of TensorRT's, name) of each attribute that our sources use."""
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse((ROOT / source).read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            held = node.value
            name = held.attr if isinstance(held, ast.Attribute) else held.id if isinstance(held, ast.Name) else ""
            if name.lstrip("_") in MEANT:
                kind = MEANT[name.lstrip("_")]
                found.add(("IRuntimeConfig" if node.attr in RUNTIME_CONFIG else kind, node.attr))
    return found


def names_of(module: str, *libraries: Path, path: Path | None = None) -> tuple[str, dict[str, list[str]]]:
    """The version, and every name of the module and its classes, told by a process of its own."""
    environment = {"PATH": "/usr/bin:/bin", **({"LD_LIBRARY_PATH": str(path)} if path else {})}
    command = [sys.executable, "-W", "ignore", "-c", LOOK, module, *map(str, libraries)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    return told["version"], told["names"]


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    compiler = which("cc")
    if compiler is None:
        pytest.skip("no C compiler here: TensorRT 11.4's names are not looked at; apt-get install gcc libc6-dev")
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "stub.c").write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in SYMBOLS))
    for library in LIBRARIES:
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library), str(folder / "stub.c")]
        subprocess.run([compiler, *flags], check=True)
    version, names = names_of("tensorrt_bindings", *(folder / library for library in LIBRARIES), path=folder)
    assert version.startswith("11.4.")
    return names


def test_our_sources_touch_what_this_test_thinks_they_do() -> None:
    found = touched()
    assert len(found) > 40
    for expected in (("Builder", "build_serialized_network"), ("", "OnnxParser"), ("Runtime", "get_engine_validity")):
        assert expected in found


def test_tensorrt_for_rtx_has_every_name_that_we_touch() -> None:
    version, names = names_of("tensorrt_rtx_bindings")
    assert version.startswith("1.7.")
    assert [one for one in sorted(touched()) if one[1] not in names[one[0]]] == []


def test_classic_tensorrt_has_every_name_but_those_that_are_rtx_only(classic: dict[str, list[str]]) -> None:
    lacking = {(kind, name) for kind, name in touched() if name not in classic.get(kind, [])}
    assert lacking == {(kind, name) for kind, names in RTX_ONLY.items() for name in names} & touched()
