"""The model that a recipe starts from, restored from a weights file with its learned quantization and sparse weights.

Knows how layers of quantization-aware training are stored and rebuilt; knows nothing of files.
"""

from torch import Tensor, nn

from toolchain.compress.metrics import example_input
from toolchain.compress.quantization.fake_quantize import WeightQuantizer
from toolchain.compress.quantization.prepare import prepare_qat
from toolchain.compress.step import CompressedModel, LearnedQuantization
from toolchain.models.load import LoadedModel
from toolchain.models.structure import state_tensors
from toolchain.progress import quiet
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import QatSettings, Weights


def rebuild_qat_layers(module: nn.Module, learned: QatSettings, preprocessing: Preprocessing) -> nn.Module:
    """`module` as the qat step prepares it, its parameters still to be filled: load_model's `rebuild`."""
    bits = LearnedQuantization(learned.weight_bits, learned.activation_bits, learned.symmetric, learned.full_range)
    image = example_input(module, preprocessing)
    with quiet("toolchain.compress.quantization"):  # the training reported what stays in float
        return prepare_qat(module, bits, learned.keep_ends, learned.learned_scales, image)


def tensors_to_store(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of `module` for a weights file. Weights on a learned grid are stored as that grid's integers (int8):
    a quarter of the bytes, the same outputs."""
    tensors = state_tensors(module)
    for name, layer in module.named_modules():
        quantizer = getattr(layer, "weight_quantizer", None)
        if isinstance(quantizer, WeightQuantizer) and quantizer.learned:
            weight = layer.get_parameter("weight")
            tensors[f"{name}.weight"] = quantizer.integers(weight)
            tensors[f"{name}.weight_quantizer.scale"] = quantizer.grid(weight).scale
    return tensors


def compressed_model_of(loaded: LoadedModel) -> CompressedModel:
    """The input of the recipe's first step; ModelError for an ONNX file."""
    module, written = loaded.require_module(), loaded.weights_record
    return CompressedModel(
        module, learned=learned_quantization(written), sparse=written.structure.sparse if written else ()
    )


def learned_quantization(written: Weights | None) -> LearnedQuantization | None:
    """The quantization that the weights in a file were trained for; None for plain weights."""
    learned = written.structure.learned if written else None
    if learned is None:
        return None
    return LearnedQuantization(learned.weight_bits, learned.activation_bits, learned.symmetric, learned.full_range)
