"""The record in a .safetensors file that `toolchain weights` wrote, as text. Reads no tensor."""

from toolchain.records.weights import Weights
from toolchain.tables import table


def weights_table(weights: Weights) -> str:
    """The model's origin, its accuracy, and how it differs from what its source builds."""
    learned, structure = weights.structure.learned, weights.structure
    accuracy = None if weights.accuracy is None else f"{weights.accuracy:.2%} of {weights.images:,} test images"
    rows = [
        ("model", weights.source, ", ".join(step.step for step in weights.steps) or "unchanged"),
        ("accuracy, fp32 torch", accuracy, weights.data),
        ("parameters", f"{weights.parameters:,}", f"{weights.macs:,} MACs per image"),
        ("narrowed", f"{len(structure.layers)} layers", f"{len(structure.identity)} blocks removed"),
        ("zeros that stay", f"in {len(structure.sparse)} parameters", ""),
        ("weights trained at", f"{learned.weight_bits} bits" if learned else "fp32", ""),
        ("recipe", weights.recipe, f"seed {weights.seed}"),
    ]
    return table(rows, ["weights", "", " "])
