"""What a recipe starts from: a loaded model as a Net, with what its weights' file says of training and zeros.

Knows how the layers of quantization-aware training come back; knows nothing of files.
"""

from torch import nn

from toolchain.compress.measured import one_picture
from toolchain.compress.quantizable import quantizable
from toolchain.compress.step import LearnedQuantization, Net
from toolchain.models.load import LoadedModel
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import Learned, Weights


def rebuilt(module: nn.Module, learned: Learned, preprocessing: Preprocessing) -> nn.Module:
    """`module` as the qat step quantizes it, its parameters to be filled: load_model's `rebuild`."""
    bits = LearnedQuantization(learned.weight_bits, learned.activation_bits)
    picture = one_picture(module, preprocessing)
    return quantizable(module, bits, learned.keep_ends, learned.learned_scales, picture, lambda _: None)


def net_of(loaded: LoadedModel) -> Net:
    """The net that the recipe's first step is given; ModelError for an ONNX file."""
    module, written = loaded.module_or_refusal(), loaded.written
    return Net(module, learned=learned_in(written), sparse=written.structure.sparse if written else ())


def learned_in(written: Weights | None) -> LearnedQuantization | None:
    """The quantization that the weights of a file were trained for; None for plain ones."""
    found = written.structure.learned if written else None
    return LearnedQuantization(found.weight_bits, found.activation_bits) if found else None
