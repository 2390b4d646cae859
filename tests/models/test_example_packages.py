"""The example that fetches packages runs only what it checked."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from toolchain.errors import ModelError

EXAMPLE = Path(__file__).parents[2] / "examples" / "efficientnet_lite0" / "model.py"


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lite0_of_a_test", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_exchanged_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example()
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path))
    archive = tmp_path / "packages" / module.ARCHITECTURE[1]
    archive.parent.mkdir()
    archive.write_bytes(b"a stranger's")
    unpacked = archive.parent / f"{archive.stem}-{module.ARCHITECTURE[2][:12]}" / "efficientnet_lite_pytorch.py"
    unpacked.parent.mkdir()
    unpacked.write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match=r"\.whl: sha256 [0-9a-f]{64}, expected ce0fe869b0e8.*; delete it and build"):
        module.efficientnet_lite0()
