"""CSV files of images and labels, as spreadsheets and scripts write them."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.contract import check_data_set, check_module
from toolchain.data import DataSet, load
from toolchain.data.own import csv_list
from toolchain.errors import DataError
from toolchain.recipe import DataSpec
from toolchain.records.tensors import Preprocessing

SIZE = Preprocessing(8, 8)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """The path of list.csv, beside 40 images 0.png, 1.png and so on."""
    random = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path / "list.csv"


def open_list(path: Path) -> DataSet:
    return load(DataSpec("csv", path.name), SIZE, path.parent)


def check_refusal(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        open_list(path)
    assert "\n" not in str(caught.value)


def rows(count: int, line: str) -> str:
    """`line` for each image; N is its number, L one of two labels, S the split."""
    splits = ("train", "train", "test")
    return "".join(
        line.replace("N", str(n)).replace("L", ("cat", "dog")[n % 2]).replace("S", splits[n % 3]) + "\n"
        for n in range(count)
    )


def test_a_list_satisfies_the_contract_with_and_without_splits(listed: Path) -> None:
    check_module("csv", csv_list)
    listed.write_text("path,label\n" + rows(40, "N.png,L"))
    data = open_list(listed)
    check_data_set(data, open_list(listed))
    assert {name: len(split) for name, split in data.splits.items()} == {
        "test": 8,
        "certify": 3,
        "validate": 3,
        "train": 26,
    }
    listed.write_text("split,label,file\n" + rows(40, "S,L,N.png"))
    data = open_list(listed)
    assert data.classes == ("cat", "dog") and not data.multilabel
    assert data.split("test").labels.tolist() == [n % 2 for n in range(40) if n % 3 == 2]


def test_a_heading_may_be_missing_and_a_byte_order_mark_and_crlf_are_taken(listed: Path) -> None:
    listed.write_bytes(b"\xef\xbb\xbf" + rows(40, "N.png, L, S").replace("\n", "\r\n").encode())
    data = open_list(listed)
    assert (len(data.split("test")), data.classes) == (13, ("cat", "dog"))


def test_numbers_as_classes_are_sorted_by_value(listed: Path) -> None:
    listed.write_text("path,label\n" + "".join(f"{n}.png,{n % 12}\n" for n in range(40)))
    assert open_list(listed).classes == tuple(map(str, range(12)))


def test_several_labels_or_none_make_every_image_multi_label(listed: Path) -> None:
    cells = ("cat", "cat;dog", "", "owl ; cat")
    listed.write_text("path,labels,split\n" + "".join(f"{n}.png,{cells[n % 4]},train\n" for n in range(20)))
    with listed.open("a") as file:
        file.writelines(f"{n}.png,{cells[n % 4]},test\n" for n in range(20, 40))
    data = open_list(listed)
    check_data_set(data, open_list(listed))
    assert data.multilabel and data.classes == ("cat", "dog", "owl")
    assert data.split("test").labels[:4].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_paths_with_backslashes_or_decomposed_accents_are_found(listed: Path) -> None:
    name = unicodedata.normalize("NFD", "Käse.png")
    (listed.parent / "in").mkdir()
    (listed.parent / "0.png").rename(listed.parent / "in" / name)
    (listed.parent / "1.png").rename(listed.parent / "in" / "1.png")
    listed.write_text("path,label\nin/Käse.png,cat\nin\\1.png,dog\n" + rows(40, "N.png,L").split("\n", 2)[2])
    assert sum(map(len, open_list(listed).splits.values())) == 40


def test_a_changed_label_changes_the_digest(listed: Path) -> None:
    listed.write_text("path,label\n" + rows(40, "N.png,L"))
    before = open_list(listed).sha256
    listed.write_text(listed.read_text().replace("\n1.png,dog", "\n1.png,cat"))
    assert open_list(listed).sha256 != before


def test_what_does_not_fit_is_named_with_its_lines(listed: Path) -> None:
    check_refusal(listed, "", "lists no images; expected columns path,label")
    check_refusal(listed, "path,label\n0.png\n", r"line 2: \['0.png'\]; expected columns path,label .* by commas")
    check_refusal(listed, "path;label\n0.png;cat\n", r"line 1: \['path;label'\]; expected columns path,label")
    check_refusal(listed, "path,label\nx.png,a\n0.png,b\ny.png,b\n", "no such file in 2 rows: line 2 'x.png', line 4")
    check_refusal(listed, "0.png,a\n1.png,b\n0.png,b\n", "the same image again in 1 rows: line 3 '0.png'; .*cat;dog")
    check_refusal(listed, "0.png,a\n1.png,a\n", "1 class; expected two or more")
    check_refusal(listed, "0.png,a,dev\n1.png,b,test\n", "line 1: split 'dev'; expected train, val or test")
    check_refusal(listed, "0.png,a,val\n1.png,b,test\n", "has no image of split train")
    listed.write_bytes("path,label\n0.png,Käse\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-8"):
        open_list(listed)
    with pytest.raises(DataError, match=r"none.csv: cannot be read"):
        open_list(listed.with_name("none.csv"))
