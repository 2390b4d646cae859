"""Where a trained model comes from: torchvision's zoo, one's own function, a torch.export program, an ONNX file."""

from toolchain.models.load import LoadedModel, load_model
from toolchain.models.source_files import files_of, user_file, written_weights
from toolchain.models.user_module import import_user_file

__all__ = ["LoadedModel", "files_of", "import_user_file", "load_model", "user_file", "written_weights"]
