"""A folder of GGUFs: what is a quant in it, what each is called, what is left out."""

import re
from pathlib import Path

import pytest

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.folder import describe_labels, read_folder
from quantexp.models.sources import source_path
from quantexp.util.errors import UserError

Made = dict[str, int]
"""Sizes of files by their names."""


def make(folder: Path, files: Made) -> Path:
    for name, size in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(size))
    return folder


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        ({"X-Q4_K_M.gguf": 2, "X-Q8_0.gguf": 3, "X-F16.gguf": 9}, ["F16", "Q8_0", "Q4_K_M"]),
        ({"x-q4_k_m.gguf": 2, "x-fp16.gguf": 3, "X.i1-IQ3_M.gguf": 1}, ["F16", "Q4_K_M", "i1-IQ3_M"]),
        ({"X-UD-Q4_K_XL.gguf": 2, "X-Q4_K_M-imat.gguf": 1}, ["UD-Q4_K_XL", "Q4_K_M-imat"]),
        (
            {"X-BF16-00001-of-00002.gguf": 4, "X-BF16-00002-of-00002.gguf": 4, "X-Q8_0.gguf": 5},
            ["BF16", "Q8_0"],
        ),
        ({"BF16/X-00001-of-00002.gguf": 4, "BF16/X-00002-of-00002.gguf": 4, "X-Q8_0.gguf": 5}, ["BF16", "Q8_0"]),
        ({"one.gguf": 2, "other (1).gguf": 1}, ["one", "other-1"]),
        ({"a-Q4_0.gguf": 2, "b-Q4_0.gguf": 1, "b-Q8_0.gguf": 4}, ["Q8_0", "a-Q4_0", "b-Q4_0"]),
        ({"a-Q4_0.gguf": 2, "Q4_0/a-Q4_0.gguf": 1}, ["a-Q4_0", "Q4_0-a-Q4_0"]),
        ({"Q4_0.gguf": 2, "x-Q4_0.gguf": 1}, ["Q4_0", "x-Q4_0"]),
        ({"8.gguf": 2, "null.gguf": 1}, ["8", "null"]),
    ],
)
def test_labels_are_those_of_the_names_and_unique(tmp_path: Path, files: Made, labels: list[str]) -> None:
    assert read_folder(str(make(tmp_path, files))).labels == labels


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mmproj-X-F16.gguf", "a projector"),
        ("X.mmproj-Q8_0.gguf", "a projector"),
        ("X.imatrix.gguf", "an importance matrix"),
        ("mtp-X-Q8_0.gguf", "a draft for speculative decoding"),
        ("X-eagle3-Q8_0.gguf", "a draft for speculative decoding"),
        ("X-dflash-Q8_0.gguf", "a draft for speculative decoding"),
        ("X-dspark-Q8_0.gguf", "a draft for speculative decoding"),
        ("draft-X-Q8_0.gguf", "a draft for speculative decoding"),
        ("X-Q8_0-00001-of-00003.gguf", "1 of 3 parts"),
        ("X-IQ4_KSS.gguf", "IQ4_KSS, a type of ik_llama.cpp, a fork, which llama.cpp cannot read"),
        ("X-Q8_0.gguf.part1of2", "a piece of a file, or an unfinished download"),
    ],
)
def test_what_is_no_quant_is_left_out_and_told(tmp_path: Path, name: str, why: str) -> None:
    folder = read_folder(str(make(tmp_path, {name: 9, "X-Q4_0.gguf": 1})))
    assert (folder.labels, folder.left_out) == (["Q4_0"], {name: why})


def test_a_merged_file_is_taken_before_its_parts(tmp_path: Path) -> None:
    parts = {f"X-Q4_0-0000{number}-of-00002.gguf": 1 for number in (1, 2)}
    folder = read_folder(str(make(tmp_path, {"X-Q4_0.gguf": 2, **parts})))
    assert [file.path.name for file in folder.files] == ["X-Q4_0.gguf"]
    assert folder.left_out == {"X-Q4_0-00001-of-00002.gguf": "there in fewer parts too"}


def test_folders_within_count_if_they_are_named_after_a_quant(tmp_path: Path) -> None:
    folder = read_folder(str(make(tmp_path, {"Q4_0/X.gguf": 1, "old/X-Q8_0.gguf": 2, "papers/x.pdf": 3})))
    assert folder.labels == ["Q4_0"]
    assert folder.left_out == {"old/": "a folder with 1 files that is not named after a quant"}


def test_a_label_that_is_shared_or_missing_is_told(tmp_path: Path) -> None:
    folder = read_folder(str(make(tmp_path, {"a-Q4_0.gguf": 2, "b-Q4_0.gguf": 1, "b-Q8_0.gguf": 4, "c.gguf": 1})))
    assert describe_labels(folder.files) == [
        "named Q4_0: a-Q4_0.gguf, b-Q4_0.gguf; called a-Q4_0, b-Q4_0",
        "named after no quant: c.gguf; called c",
    ]


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    make(tmp_path, {"X-Q4_0.gguf": 1})
    (tmp_path / "X-Q8_0.gguf").symlink_to(tmp_path / "gone")
    folder = read_folder(str(tmp_path))
    assert (folder.labels, folder.left_out) == (["Q4_0"], {"X-Q8_0.gguf": "a link to nothing"})


def test_a_job_finds_its_file_and_links_keep_their_names(tmp_path: Path) -> None:
    stored = make(tmp_path / "blobs", {"1": 1, "2": 1})
    folder = tmp_path / "snapshot"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"X-Q4_0-0000{number}-of-00002.gguf").symlink_to(stored / str(number))
    model = ModelConfig("x", "folder", path=str(folder))
    assert source_path(model, QuantConfig("q4_0")) == folder / "X-Q4_0-00001-of-00002.gguf"
    with pytest.raises(UserError, match=r"^quant=Q8_0: \S+ has no such file; choose one of Q4_0\.$"):
        source_path(model, QuantConfig("Q8_0"))


@pytest.mark.parametrize(
    ("files", "place", "said"),
    [
        (
            {},
            "nowhere",
            r"model\.path=\S+/nowhere is not a folder; give one with GGUFs in it, absolute or relative to ",
        ),
        ({"X.gguf": 1}, "X.gguf", r"model\.path=\S+ is not a folder: it is a file, which model=local takes; "),
        ({}, ".", r"model\.path=\S+ holds no GGUF of a model; give the folder that the files are in\."),
        ({"a.txt": 1}, ".", r"model\.path=\S+ holds no GGUF of a model; give"),
        (
            {"mmproj-X.gguf": 1, "X/X-Q4_0.gguf": 1},
            ".",
            r"holds no GGUF of a model \(left out: X/, a folder .*; mmproj-X\.gguf, a projector\); give",
        ),
    ],
)
def test_a_place_without_quants_is_refused(tmp_path: Path, files: Made, place: str, said: str) -> None:
    make(tmp_path, files)
    with pytest.raises(UserError) as refused:
        read_folder(str(tmp_path / place))
    assert re.search(said, str(refused.value))
    assert "\n" not in str(refused.value)
