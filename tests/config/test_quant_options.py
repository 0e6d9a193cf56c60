"""The options of the group `quant`: every type of file that the installed llama.cpp knows."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from tests.support.composing import compose_job, initialize_hydra

from quantexp.config.composition import compose_option
from quantexp.config.hydra_schemas import register_schemas
from quantexp.util.error_reports import explain_error
from quantexp.util.errors import UserError
from quantexp.util.llama_library import llama_cpp
from quantexp.util.native import file_types
from quantexp.util.native.file_types import list_file_types, list_quants


@pytest.fixture
def _conf() -> Iterator[None]:
    with initialize_hydra():
        yield


def test_the_types_are_those_of_the_library() -> None:
    constants = {name: value for name, value in vars(llama_cpp).items() if isinstance(value, int)}
    known = {name: value for name, value in constants.items() if name.startswith("LLAMA_FTYPE_")}
    assert {f"LLAMA_FTYPE_{name}": number for number, name in list_file_types().items()} == known
    assert set(list_quants().values()) == {name for name in list_file_types().values() if name != "GUESSED"}


@pytest.mark.usefixtures("_conf")
def test_every_type_is_an_option() -> None:
    known = GlobalHydra.instance().config_loader().get_group_options("quant")
    assert set(list_quants()) < set(known)
    for name, file_type in list_quants().items():
        quant = compose_option("quant", name)
        assert (quant.name, quant.file_type, quant.get("method")) == (name, file_type, None)
    as_published = {"MXFP4": "MOSTLY_MXFP4_MOE", "F32": "ALL_F32", "TQ1_0": "MOSTLY_TQ1_0", "IQ4_XS": "MOSTLY_IQ4_XS"}
    assert as_published.items() <= list_quants().items()


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize("label", ["UD-Q4_K_XL", "i1-IQ3_M", "Q4_K_L", "my-mix"])
def test_any_other_label_is_a_name(label: str) -> None:
    quant = compose_job("quant=as-is", f"quant.name={label}").quant
    assert (quant.name, quant.file_type) == (label, None)


def test_an_option_of_the_users_own_wins_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "quant").mkdir()
    (tmp_path / "quant" / "IQ4_XS.yaml").write_text("name: mine\nfile_type: null\n")
    (tmp_path / "config.yaml").write_text("defaults: [schema, quant: IQ4_XS, _self_]\n")
    register_schemas()
    with warnings.catch_warnings(), initialize_config_dir(str(tmp_path), version_base="1.3"):
        warnings.filterwarnings("error", "(?!\\s*'quant/)")
        quant = compose("config").quant
    assert (quant.name, quant.file_type) == ("mine", None)


def test_composing_loads_no_library() -> None:
    script = """
import sys
from hydra import compose, initialize_config_module
from quantexp.config.hydra_schemas import register_schemas
register_schemas()
with initialize_config_module("quantexp.conf", version_base="1.3"):
    assert compose("config", ["quant=NVFP4"]).quant.file_type == "MOSTLY_NVFP4"
assert "llama_cpp" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.usefixtures("_conf")
def test_without_the_binding_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_types, "list_file_types", dict)
    list_quants.cache_clear()
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - Hydra's own
            compose("config", ["quant=Q4_K_XXL"])
        assert str(explain_error(caught.value)).endswith(
            "; the types of GGUF files are options once llama-cpp-python is installed: python -m quantexp.build_llama."
        )
    finally:
        list_quants.cache_clear()


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["model.quantize=false", "model.imatrix=x"],
            "model.imatrix is of quants that are made here: add model.quantize=true, or leave it out.",
        ),
        (
            ["model.quantize=false", "model.tensor_types={ffn: Q8_0}"],
            "model.tensor_types is of quants that are made here: add model.quantize=true, or leave it out.",
        ),
        (
            ["model.tensor_types={*ab: Q8_0}"],
            "model.tensor_types: *ab is no regular expression (nothing to repeat at position 0).",
        ),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        compose_job(*overrides)
    assert str(refused.value) == sentence
