"""`python -m quantexp.models inspect`: what a user sees of a file."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.gguf_files import write_gguf, write_typed_gguf
from tests.support.reasoning_models import THINKING

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.sources import source_path

Command = Callable[..., tuple[int, str, str]]

MADE: dict[str, str | int] = {
    "llama.context_length": 4096,
    "tokenizer.chat_template": THINKING,
    "quantize.imatrix.file": "m.imatrix",
    "quantize.imatrix.entries_count": 224,
    "general.quantized_by": "some\x1b[2Jbody",
    "general.base_model.0.repo_url": "https://huggingface.co/a/b",
    "general.license": "",
    "some.llama_cpp_build": "b9999",
}


def test_a_file_is_shown_by_role_and_with_what_it_says(command: Command, tmp_path: Path) -> None:
    experts = {"token_embd.weight": "Q8_0", "blk.0.ffn_up_exps.weight": "MXFP4", "blk.0.ffn_down_exps.weight": "MXFP4"}
    path = write_typed_gguf(tmp_path / "m.gguf", 7, {**experts, "output.weight": "BF16"}, MADE, tokens={"<a>": 3})
    status, out, err = command(tmp_path, "quantexp.models", "inspect", "m.gguf")
    assert (status, err) == (0, "")
    lines = [" ".join(line.replace("│", "").split()) for line in out.splitlines()]
    assert lines[0].endswith("m.gguf")
    for line in (
        "token embedding 1 25% 8.50 Q8_0 100%",
        "output 1 25% 16.00 BF16 100%",
        "experts 2 50% 4.25 MXFP4 100%",
        "all 4 100% 8.25 MXFP4 50%, Q8_0 25%, BF16 25%",
        "says that it holds Q8_0",
        "in fact Q8_0, of which 50% MXFP4",
        "architecture llama, 4,096 weights, 0.0 MB",
        "trained for 4,096 tokens",
        "importance matrix file m.imatrix, entries 224",
        "reasoning (auto) think",
        "general.quantized_by some\\x1b[2Jbody",
        "general.base_model.0.repo_url https://huggingface.co/a/b",
        "some.llama_cpp_build b9999",
    ):
        assert line in lines
    digest = hashlib.sha256(THINKING.encode()).hexdigest()
    assert f"chat template sha256 {digest[:12]}, reads enable_thinking, opened" in lines
    assert "general.license" not in out
    status, out, err = command(tmp_path, "quantexp.models", "inspect", "--json", str(path))
    assert (status, err) == (0, "")
    [facts] = json.loads(out)
    assert facts["files"] == [str(path)]
    assert facts["misnomer"] == "Q8_0, of which 50% MXFP4"
    assert facts["chat_template"]["sha256"] == digest
    assert facts["roles"][-1]["types"] == {"MXFP4": 0.5, "Q8_0": 0.25, "BF16": 0.25}
    assert facts["importance_matrix"] == {"file": "m.imatrix", "entries": 224}


def test_the_embedded_model(command: Command, demo: ModelConfig, q8_0: object, tmp_path: Path) -> None:
    source = source_path(demo, QuantConfig("Q8_0"))
    status, out, _ = command(tmp_path, "quantexp.models", "inspect", str(source), "--json")
    assert status == 0
    [facts] = json.loads(out)
    assert facts["roles"][0]["role"] == "token embedding, output too"
    assert (facts["says"], facts["misnomer"], facts["parameters"]) == ("Q4_1", None, 134_515_008)
    assert facts["chat_template"]["arguments"] == []
    assert facts["chat_template"]["reasoning"] == "none"
    status, out, err = command(tmp_path, "quantexp.models", "inspect", "quant=Q8_0", f"model.cache={demo.cache}")
    assert (status, err) == (0, "")
    assert "Q8_0 >99%, F32 <1%" in out


def test_parts_are_one_file_and_a_template_that_is_no_jinja_is_said_to_be_none(
    command: Command, tmp_path: Path
) -> None:
    parts = write_gguf(tmp_path / "m.gguf", "Q4_K_M", parts=2)
    write_typed_gguf(tmp_path / "odd.gguf", None, {"a": "F32"}, {"tokenizer.chat_template": "{% if"})
    status, out, err = command(tmp_path, "quantexp.models", "inspect", parts[1].name, "odd.gguf")
    assert (status, err) == (0, "")
    assert "MB in 2 files" in out
    assert "says that it holds  unknown" in out
    assert "The model's chat template is not valid Jinja" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bad.gguf"], "bad.gguf is not a complete GGUF file (it does not begin with GGUF); fetch or make it again."),
        (["nope.gguf"], "nope.gguf is not a file; give the path of a GGUF."),
        (["bad.gguf", "quant=Q8_0"], "inspect takes files, or keys such as quant=Q8_0, and not both at once."),
    ],
)
def test_what_cannot_be_inspected_is_a_sentence(command: Command, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "bad.gguf").write_text("version https://git-lfs.github.com/spec/v1")
    status, out, err = command(tmp_path, "quantexp.models", "inspect", *words)
    assert (status, out) == (2, "")
    assert err.startswith("quantexp: ")
    assert err.endswith(f"{said}\n")
    assert len(err.splitlines()) == 1
