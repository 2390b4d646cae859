"""The commands that write JSON Schemas for editors."""

from pathlib import Path
from typing import Any


def recipe_schema(*, out: Path | None = None) -> None:
    """Write the JSON Schema of recipes, by which editors complete and check them.

    Args:
        out: the file; by default the schema goes to stdout
    """
    from toolchain.schemas.json_schema import recipe_schema as schema

    _write(schema(), out)


def inventory_schema(*, out: Path | None = None) -> None:
    """Write the JSON Schema of inventories, by which editors complete and check them.

    Args:
        out: the file; by default the schema goes to stdout
    """
    from toolchain.schemas.json_schema import inventory_schema as schema

    _write(schema(), out)


def _write(schema: dict[str, Any], out: Path | None) -> None:
    import msgspec

    from toolchain.records.storage import check_output_path, write_atomically
    from toolchain.views.bundle import as_json

    if out is None:
        print(as_json(schema))
        return
    check_output_path(out)
    write_atomically(out, msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n")
    print(as_json({"out": str(out)}))
