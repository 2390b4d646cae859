"""The types of the public names; __init__.py says where each is, and imports it when it is used."""

from toolchain.api.build import build_bundle as build
from toolchain.api.bundle import BuiltBundle as Bundle
from toolchain.api.client import Client as Client
from toolchain.api.gate import GateOutcome as GateOutcome
from toolchain.api.gate import gate_release as gate
from toolchain.api.history import read_history as history
from toolchain.api.image import Image as Image
from toolchain.api.prediction import Prediction as Prediction
from toolchain.api.search import search_recipes as search
from toolchain.api.server import Server as Server
from toolchain.recipe import BuildSpec as BuildSpec
from toolchain.recipe import CalibrationSpec as CalibrationSpec
from toolchain.recipe import DataSpec as DataSpec
from toolchain.recipe import InputSpec as InputSpec
from toolchain.recipe import ModelSpec as ModelSpec
from toolchain.recipe import Recipe as Recipe
from toolchain.recipe import SearchSpec as SearchSpec

from . import errors as errors

__version__: str
__all__ = [
    "BuildSpec",
    "Bundle",
    "CalibrationSpec",
    "Client",
    "DataSpec",
    "GateOutcome",
    "Image",
    "InputSpec",
    "ModelSpec",
    "Prediction",
    "Recipe",
    "SearchSpec",
    "Server",
    "build",
    "errors",
    "gate",
    "history",
    "search",
]
