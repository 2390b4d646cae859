"""The table of generated pages: where each goes, and the function that returns its text."""

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generate.commands import commands_page
from docs.generate.container import container_page
from docs.generate.decisions import decisions_page
from docs.generate.errors import errors_page
from docs.generate.formats import formats_page
from docs.generate.grpc import grpc_page
from docs.generate.http import http_page
from docs.generate.keys import inventory_page, recipe_page
from docs.generate.metrics import metrics_page
from docs.generate.python import python_page
from docs.generate.steps import steps_page

DOCS = Path(__file__).parent.parent
PAGES: Mapping[str, Callable[[], str]] = {
    "reference/cli.md": commands_page,
    "reference/python.md": python_page,
    "reference/recipe.md": recipe_page,
    "reference/steps.md": steps_page,
    "reference/inventory.md": inventory_page,
    "reference/container.md": container_page,
    "reference/http.md": http_page,
    "reference/grpc.md": grpc_page,
    "reference/metrics.md": metrics_page,
    "reference/errors.md": errors_page,
    "reference/file-formats.md": formats_page,
    "decisions/index.md": decisions_page,
}
