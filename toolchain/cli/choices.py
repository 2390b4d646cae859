"""Words that flags choose from, where a table of a room that loads libraries holds them: --help must not load it.

tests/cli/test_choices.py holds each against its table.
"""

from typing import Literal

Target = Literal["openvino", "tensorrt", "onnxruntime", "null"]
DataName = Literal["cifar10", "svhn", "fashion-mnist", "imagenet-photos"]
ShellName = Literal["bash", "zsh", "fish"]
Source = Literal["auto", "official", "mirror"]
Scenarios = tuple[Literal["SingleStream", "MultiStream", "Server", "Offline", "all"], ...]
