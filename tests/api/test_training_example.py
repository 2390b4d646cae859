"""examples/own_model/train.py: what trained the example's weights still trains them. Of its twelve epochs only two are
run, which take a tenth of its minute and get far above chance."""

import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from safetensors import safe_open

from tests.house.tree import ROOT

TWO_EPOCHS = "import train; train.EPOCHS = 2; train.main()"
CLASSES = 7


@pytest.mark.slow
def test_the_training_example_trains_what_the_recipes_read(tmp_path: Path) -> None:
    folder = tmp_path / "own_model"
    copytree(ROOT / "examples" / "own_model", folder, ignore=ignore_patterns("data", "*.safetensors"))
    for command in (["make_data.py"], ["-c", TWO_EPOCHS]):
        ran = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
    shares = {name: float(share) / 100 for name, share in re.findall(r"(\w+): ([\d.]+)%", ran.stdout)}
    assert set(shares) == {"grey28", "wide"}
    assert all(share > 2 / CLASSES for share in shares.values()), shares
    for name in shares:
        with (
            safe_open(folder / f"{name}.safetensors", "pt") as trained,
            safe_open(ROOT / "examples" / "own_model" / f"{name}.safetensors", "pt") as shipped,
        ):
            assert sorted(trained.keys()) == sorted(shipped.keys())
