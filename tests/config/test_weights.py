"""Weights in one word, and the keys that they stand for."""

from collections.abc import Iterator

import pytest
from tests.support.composing import compose_job, initialize_hydra

from quantexp.config.fingerprint import config_fingerprint, pair_fingerprint
from quantexp.config.weights import parse_weights
from quantexp.util.errors import UserError


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_hydra():
        yield


@pytest.mark.parametrize(
    ("word", "name", "model", "chosen"),
    [
        ("a/X-GGUF:Q4_K_M", "a/Q4_K_M", "X", {"repository": "a/X-GGUF", "revision": "main", "file": None}),
        ("a/X-gguf:UD-Q4_K_XL@v2", "a/UD-Q4_K_XL@v2", "X", {"repository": "a/X-gguf", "revision": "v2"}),
        ("a/X:IQ3_S-2.69bpw", "a/IQ3_S-2.69bpw", "X", {"repository": "a/X", "source": "hub", "path": None}),
        ("a/X-GGUF:sub/x-Q8_0.gguf", "a/x-Q8_0", "X", {"file": "sub/x-Q8_0.gguf"}),
        ("a/x-Q8_0.gguf", "x-Q8_0", None, {"source": "path", "path": "a/x-Q8_0.gguf", "repository": None}),
        ("~/x-Q8_0-00001-of-00002.gguf", "x-Q8_0", None, {"path": "~/x-Q8_0-00001-of-00002.gguf"}),
    ],
)
def test_a_word_stands_for_keys(word: str, name: str, model: str | None, chosen: dict[str, str | None]) -> None:
    job = compose_job("model=hub", "model.name=x", f"weights='{word}'")
    assert (job.quant.name, parse_weights(word).model) == (name, model)
    assert {key: getattr(job.model, key) for key in chosen} == chosen
    assert not job.model.quantize
    assert job.quant.file_type is None


@pytest.mark.parametrize("word", ["Q4_K_M", "a/X-GGUF", "a/X-GGUF:", "a/b/c:Q8_0", "a/X:Q8_0@", "x.safetensors"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(UserError, match=r"^weights=.*: name a file of the Hub as OWNER/NAME:LABEL, such as .*\.$"):
        parse_weights(word)


def test_the_settings_of_a_named_model_stay() -> None:
    job = compose_job("model=qwen3-8b", "weights='unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL'")
    assert (job.model.name, job.model.reasoning, job.model.revision) == ("qwen3-8b", "think", "main")
    assert job.model.repository == "unsloth/Qwen3-8B-GGUF"


def test_jobs_of_different_publishers_are_paired() -> None:
    alice, bob, mine = (
        compose_job("model=hub", "model.name=X", f"weights='{word}'")
        for word in ("a/X-GGUF:Q8_0", "b/X-GGUF:Q4_0@v2", "mine.gguf")
    )
    assert len({pair_fingerprint(job) for job in (alice, bob, mine)}) == 1
    assert len({config_fingerprint(job) for job in (alice, bob, mine)}) == 3
    other = compose_job("model=hub", "model.name=Y", "weights='a/X-GGUF:Q8_0'")
    assert pair_fingerprint(other) != pair_fingerprint(alice)
