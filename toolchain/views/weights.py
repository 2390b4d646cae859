"""What a .safetensors file of ours says of itself, for a person on stdout. Reads no tensor."""

from toolchain.records.weights import Weights
from toolchain.tables import table


def weights_table(weights: Weights) -> str:
    """Where the net came from, how good it is, and how it differs from what its source builds."""
    learned, structure = weights.structure.learned, weights.structure
    top1 = None if weights.accuracy is None else f"{weights.accuracy:.2%} of {weights.images:,} test pictures"
    rows = [
        ("net", weights.source, ", ".join(step.step for step in weights.steps) or "as it came"),
        ("top-1, fp32 torch", top1, weights.data),
        ("parameters", f"{weights.parameters:,}", f"{weights.macs:,} MACs a picture"),
        ("narrowed", f"{len(structure.layers)} layers", f"{len(structure.identity)} blocks taken out"),
        ("zeros that stay", f"in {len(structure.sparse)} parameters", ""),
        ("weights trained at", f"{learned.weight_bits} bits" if learned else "fp32", ""),
        ("recipe", weights.recipe, f"seed {weights.seed}"),
    ]
    return table(rows, ["weights", "", " "])
