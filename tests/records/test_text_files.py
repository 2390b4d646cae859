"""Text files as editors save them."""

from pathlib import Path

import pytest

from deploy.servers.inventory import read_inventory
from toolchain.errors import RecipeError, UsageError
from toolchain.recipe import read_recipe
from toolchain.text_files import decode_text, read_text_file

TEXT = "Größe\nant\n"
RECIPE = (Path(__file__).parents[2] / "recipes").glob("*.toml")


def message(content: bytes) -> str:
    with pytest.raises(RecipeError) as error:
        decode_text(content, "labels.txt", RecipeError)
    return str(error.value)


@pytest.mark.parametrize("content", [TEXT.encode(), TEXT.encode("utf-8-sig"), TEXT.replace("\n", "\r\n").encode()])
def test_utf8_is_read_with_or_without_a_mark_and_with_either_line_end(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(content)
    assert read_text_file(tmp_path / "text", RecipeError) == TEXT


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_other_unicode_is_named_by_its_mark(encoding: str) -> None:
    content = TEXT.encode(encoding) if encoding != "utf-16-be" else b"\xfe\xff" + TEXT.encode(encoding)
    name = encoding.upper()[:6]
    assert message(content) == (
        f"labels.txt: byte 0, 0x{content[0]:02x}, is the mark of {name}; save it as UTF-8: iconv -f {name} -t UTF-8 "
        "labels.txt > utf-8.txt"
    )


def test_a_byte_of_a_windows_code_page_is_named_with_its_line_and_letter() -> None:
    assert message(b"ant\n" + TEXT.encode("cp1252")) == (
        "labels.txt: line 2: byte 6, 0xf6, is not UTF-8 (ö in Windows-1252); save it as UTF-8: "
        "iconv -f CP1252 -t UTF-8 labels.txt > utf-8.txt"
    )
    assert message(b"\xef\xbb\xbfant\n\xf6").startswith("labels.txt: line 2: byte 7, 0xf6, is not UTF-8")
    assert message(b"ant \x81").startswith("labels.txt: line 1: byte 4, 0x81, is not UTF-8; save")


def test_utf16_without_a_mark_is_no_text() -> None:
    assert message("ant\n".encode("utf-16-le")).startswith(
        "labels.txt: line 1: byte 1, 0x00, is in no text: UTF-16 without its mark, or no text file; save it as UTF-8"
    )


def test_recipes_and_inventories_are_read_alike(tmp_path: Path) -> None:
    recipe, inventory = tmp_path / "r.toml", tmp_path / "i.toml"
    text = next(RECIPE).read_text()
    recipe.write_bytes(text.encode())
    plain = read_recipe(recipe)
    recipe.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_recipe(recipe) == plain
    recipe.write_bytes(text.encode("utf-16"))
    with pytest.raises(RecipeError, match="the mark of UTF-16"):
        read_recipe(recipe)
    inventory.write_bytes("[[server]]\nname = 'edge'\naddress = 'ö'\n".encode("cp1252"))
    with pytest.raises(UsageError, match="0xf6, is not UTF-8"):
        read_inventory(inventory)
