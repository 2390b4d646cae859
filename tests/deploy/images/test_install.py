from pathlib import Path

import numpy as np
import pytest

from deploy.images.install import DROPPED, NUMPY, OPENVINO, PILLOW, compile_tree, drop, set_times


@pytest.mark.parametrize("pattern", OPENVINO + NUMPY + PILLOW)
def test_each_thing_to_drop_is_in_today_s_wheels(pattern: str) -> None:
    """A library that was renamed would come back into the image unseen."""
    site = Path(np.__file__).parents[1]
    assert list(site.glob(pattern))


def test_the_decoders_of_what_is_served_stay() -> None:
    site = Path(np.__file__).parents[1]
    dropped = {path.name.partition("-")[0].partition(".")[0] for pattern in PILLOW for path in site.glob(pattern)}
    assert not dropped & {
        "_imaging",
        "_webp",
        "libwebp",
        "libwebpmux",
        "libwebpdemux",
        "libsharpyuv",
        "libtiff",
        "libjpeg",
    }
    assert {"_avif", "libavif"} <= dropped


def test_what_is_named_is_dropped_and_the_rest_stays(tmp_path: Path) -> None:
    kept = ["openvino/libs/libopenvino_intel_cpu_plugin.so", "openvino/libs/libopenvino_ir_frontend.so.2641", "a/b.py"]
    gone = ["openvino/libs/libopenvino_intel_gpu_plugin.so", "openvino/frontend/onnx/__init__.py", "a/tests/test_b.py"]
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    drop(tmp_path, DROPPED)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_byte_code_and_times_are_the_same_each_time(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "module.py").write_text("ANSWER = 42\n")
        compile_tree(folder)
        set_times(folder, 0)
        (code,) = folder.rglob("*.pyc")
        assert code.stat().st_mtime == 0
        contents.append(code.read_bytes()[:16])
    assert contents[0] == contents[1]


def test_a_module_that_does_not_compile_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def\n")
    with pytest.raises(SystemExit, match="does not compile"):
        compile_tree(tmp_path)
