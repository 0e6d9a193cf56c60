"""The identity of a job: all that its scores depend on besides the quant. Runs are paired by it, or refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.config import Config, ReasoningEnd, TaskConfig
from quantexp.config.identity import Identity
from quantexp.evaluation.answers import VERSION, AnswerReader
from quantexp.models import ModelFile
from quantexp.models.contents import describe_matrix, describe_misnomer, describe_types, read_contents
from quantexp.tasks import Grader
from quantexp.tasks.items import Dataset
from quantexp.tasks.reasoning import get_format
from quantexp.tasks.requests import join_parts
from quantexp.tracking.tags import MATRIX, MISNOMER, SOURCE_BITS, SOURCE_TYPE, TYPES, WARNINGS

if TYPE_CHECKING:
    from quantexp.engines import Engine


def pairing_facts(config: Config, data: Dataset, grader: Grader) -> dict[str, str]:
    """Collect what a job's fingerprints hold besides its configuration, and what its baseline's must hold as well."""
    # Not yet the one that `auto` stands for, which a file decides.
    form = get_format(config.model.reasoning)
    reader = f"{config.model.reasoning}-v{VERSION}" if form is None else AnswerReader(form).id
    return {"data": data.fingerprint, "reader": reader, "grader": grader.id, **data.facts, **_identify_base(config)}


def _identify_base(config: Config) -> dict[str, str]:
    """Name the file that divergence is measured from; nothing if that is the baseline's own distributions."""
    if config.divergence_base is None:
        return {}
    # Only here, as in `job.prepare`.
    from quantexp.evaluation.kl_divergence.llama_file import hash_llama_file

    return {"divergence_base": hash_llama_file(Path(config.divergence_base).expanduser())}


def identify(
    config: Config,
    data: Dataset,
    grader: Mapping[str, str],
    file: ModelFile,
    source: ModelFile,
    engine: "Engine",
    prompt: Mapping[str, str],
    reader: AnswerReader,
) -> Identity:
    """Name all that a job's scores depend on besides the quant.

    Args:
        config: the job.
        data: where its items come from.
        grader: who grades, and what decides its grades besides.
        file: the model's file.
        source: what that was made of.
        engine: the loaded model.
        prompt: hashes of what surrounds an item in its prompt.
        reader: of the outputs.
    """
    return {
        "model": _describe_model(config, file, source),
        "data": {"name": data.name, "fingerprint": data.fingerprint, **data.facts, **_identify_base(config)},
        "prompt": {
            "version": config.task.prompt.version,
            "shots": config.task.shots,
            **prompt,
            # Of these the hashes say all; they say it to people.
            **{f"template.{name}": value for name, value in config.model.template.items()},
            **({"system": system} if (system := join_parts(config.model.system, config.task.prompt.system)) else {}),
        },
        "reader": {"id": reader.id},
        "grader": grader,
        "settings": {
            "max_tokens": config.task.max_tokens,
            "decoding": _describe_decoding(config.task),
            **_describe_reasoning(config.task, engine),
            **engine.settings,
        },
    }


def describe_file(config: Config, file: ModelFile, source: ModelFile) -> dict[str, object]:
    """Collect what reports say of the file: its tensors, of what it was made, and what llama.cpp finds odd about it."""
    facts: dict[str, object] = {}
    if config.model.source != "server" and config.model.quantize:
        facts |= {SOURCE_TYPE: source.file_type, SOURCE_BITS: source.bits_per_weight}
    if file.warnings:
        facts[WARNINGS] = "; ".join(file.warnings)
    return facts | _describe_contents(Path(file.path))


def _describe_contents(path: Path) -> dict[str, object]:
    """Collect the types in a GGUF and its importance matrix; nothing of a server's model without one here."""
    if not path.is_file():
        return {}
    contents = read_contents(path)
    misnomer = describe_misnomer(contents)
    return {
        TYPES: describe_types(contents.tensors),
        MATRIX: describe_matrix(contents),
        **({MISNOMER: misnomer} if misnomer is not None else {}),
    }


def describe_machine(engine: "Engine") -> dict[str, str]:
    """Collect the tags that say what answered."""
    return {f"engine.{key}": value for key, value in engine.machine.items()}


def _describe_model(config: Config, file: ModelFile, source: ModelFile) -> dict[str, object]:
    """Collect what the quants of one model have in common."""
    if config.model.source == "server":
        return {"name": config.model.name}  # formats count weights differently, and of some files nothing is here
    return {
        "name": config.model.name,
        "architecture": file.architecture,
        "parameters": file.parameters,
        # Quants that were published as files of their own have no common source here.
        "source": source.sha256 if config.model.quantize else "the publisher's files",
    }


def _describe_reasoning(task: TaskConfig, engine: "Engine") -> dict[str, str]:
    """Say how long a model may reason before it answers, and what happens then; nothing of one that does not."""
    if not engine.reasoning_tokens:
        return {}
    end = "the answer is forced" if task.reasoning_end is ReasoningEnd.force else "the output ends"
    return {"reasoning": f"at most {engine.reasoning_tokens} tokens, then {end}"}


def _describe_decoding(task: TaskConfig) -> str:
    """Say how answers are chosen and ended; what does nothing is named only if runs of earlier versions name it."""
    sampling = task.sampling
    words = "greedy"
    if sampling.temperature > 0:
        words = (
            f"temperature {sampling.temperature}, top_p {sampling.top_p}, min_p {sampling.min_p}, "
            f"{sampling.samples} samples an item, seed {sampling.seed}"
        )
        words += f", top_k {sampling.top_k}" if sampling.top_k else ""
    penalties = {
        "presence_penalty": (sampling.presence_penalty, 0.0),
        "frequency_penalty": (sampling.frequency_penalty, 0.0),
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
    }
    there = [f"{name} {value}" for name, (value, neutral) in penalties.items() if value != neutral]
    if there and sampling.penalty_last_n:
        window = "all" if sampling.penalty_last_n < 0 else f"the last {sampling.penalty_last_n}"
        words += f", {', '.join(there)} over {window} tokens"
    return words + (f"; ends before {json.dumps(task.stop, ensure_ascii=False)}" if task.stop else "")
