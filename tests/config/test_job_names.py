"""Two files under one name in a sweep: refused before anything runs, unless something else tells them apart."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.composing import compose_sweep, initialize_hydra

from quantexp.config.composition import compose_jobs
from quantexp.config.job_names import check_names
from quantexp.util.errors import UserError

LOCAL = ("model=local", "quant=as-is")
HUB = ("model=hub", "model.name=m", "quant=Q8_0,Q4_K_M")
SERVER = (
    "model=server",
    "model.name=m",
    "engine=openai",
    "engine.url=http://127.0.0.1:1/v1",
    "quant.bits_per_weight=4",
)


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_hydra():
        yield


def check(*overrides: str) -> None:
    check_names(list(compose_jobs(compose_sweep(*overrides))))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            (*LOCAL, "model.path=A.gguf,B.gguf"),
            r"as-is on \w+ seed 0 \(model\.path=A\.gguf and model\.path=B\.gguf\), so that one would hide the other; ",
        ),
        ((*LOCAL, "model.path=A.gguf,B.gguf", "quant.name=a,b"), r"one name, a on "),
        ((*LOCAL, "model.path=A.gguf", "model.sha256=null,00"), r"\(model\.sha256=None and model\.sha256="),
        (
            (*HUB, "model.repository=o/a,o/b"),
            r"Q8_0 on .*; call them different models, as in 'model\.name=NAME-\$\{model\.repository\}', or make ",
        ),
        ((*HUB, "model.repository=o/a", "model.revision=main,v2"), r"\(model\.revision=main and model\.revision=v2\)"),
        (
            (*HUB, "model.repository=o/a", "model.file=a.gguf,b.gguf"),
            r"\(model\.file=a\.gguf and model\.file=b\.gguf\)",
        ),
        (
            ("quant=Q8_0", "quant.name=x", "quant.file_type=MOSTLY_Q8_0,MOSTLY_Q2_K"),
            r"\(quant\.file_type=MOSTLY_Q8_0 and ",
        ),
        (
            ("quant=Q4_K_M", "model.imatrix=a/x.gguf,b/x.gguf"),
            r"\(model\.imatrix=a/x.gguf and model\.imatrix=b/x.gguf\), .*; let the name choose, as",
        ),
        (("quant=Q4_K_M", "model.tensor_types={ffn: Q8_0},{}"), r"\(model\.tensor_types=.* and model\.tensor_types="),
        ((*SERVER, "quant=as-is", "engine.model=a,b"), r"\(engine\.model=a and engine\.model=b\)"),
    ],
)
def test_two_weights_under_one_name_are_refused(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        check(*overrides)
    assert str(refused.value).startswith("Two jobs of this sweep have different weights and one name, ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "overrides",
    [
        (*LOCAL, "quant.name=A,B", "model.path=${quant.name}.gguf"),
        (*LOCAL, "model.path=A.gguf,B.gguf", "model.name=${model.path}"),
        (*HUB, "model.repository=o/a", "model.revision=main,v2", "model.name=NAME-${model.revision}"),
        (*HUB[:1], *HUB[2:], "model.repository=o/a,o/b"),  # named after the repository
        (
            *LOCAL[:1],
            "quant=Q8_0,Q4_K_M",
            "model.quantize=true",
            "model.path=A.gguf,B.gguf",
        ),  # told apart by the source
        ("quant=Q4_K_M", "quant.name=a,b", "model.imatrix=${quant.name}.gguf"),
        ("quant=Q4_K_M", "model.imatrix=null,a.gguf"),  # two conditions
        ("quant=Q8_0", "task.max_tokens=8,9", "seed=0,1", "task=gsm8k,triviaqa"),
        ("quant=Q8_0", "model.chat_template=a.jinja,b.jinja"),
        ("quant=Q8_0,Q8_0",),  # the same job: the second finds the first
        ("quant=Q8_0", "engine.threads=1,2"),
    ],
)
def test_what_can_be_told_apart_runs(overrides: tuple[str, ...]) -> None:
    check(*overrides)


def test_nothing_has_begun(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, err = command(tmp_path, "quantexp", "-m", *LOCAL, "model.path=A.gguf,B.gguf")
    assert (status, out) == (2, "")
    assert err.startswith("quantexp: Two jobs of this sweep have different weights and one name, as-is on ")
    assert err.count("\n") == 1
    assert not (tmp_path / "mlruns").exists()
