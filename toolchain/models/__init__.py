"""Loads trained models: torchvision's networks, the user's own function, a torch.export program or an ONNX file."""

from toolchain.models.load import LoadedModel, load_model
from toolchain.models.source_files import read_weights_record, source_files, user_file
from toolchain.models.user_module import import_user_file

__all__ = ["LoadedModel", "import_user_file", "load_model", "read_weights_record", "source_files", "user_file"]
