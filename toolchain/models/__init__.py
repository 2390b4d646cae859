"""Where a trained model comes from: torchvision's zoo, one's own function, a torch.export program, an ONNX file."""

from toolchain.models.load import LoadedModel, load_model
from toolchain.models.userfile import import_user_file

__all__ = ["LoadedModel", "import_user_file", "load_model"]
