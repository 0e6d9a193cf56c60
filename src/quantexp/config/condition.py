"""Conditions: the factors in which the jobs of a sweep may differ and yet be compared.

A condition is the weights and all other factors. What is called by the weights' name alone is run at the reference: the
levels of the other factors that the baseline has.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from quantexp.config.choices import FlashAttention, KVType
from quantexp.config.schema import Config, StatsConfig
from quantexp.util.environment import REFERENCES

Levels = Mapping[str, str]
"""A level of each of some factors, by the factor's name."""

WEIGHTS = "weights"
"""The first factor: the quant, by its name."""

TEMPLATE = "template."
"""Prefix of the factors that are arguments of the chat template, which have names of the model's own."""

ALL_ARGUMENTS = "template"
"""All arguments of the chat template, in `stats.factors`."""

UNSET = "unset"
"""Level of a template's argument that is not given."""

_OF_PROMPT = ("prompt.sha256", "reader.id", "settings.reasoning", "settings.context")
"""Entries of a run's identity that follow from its chat template: a model that thinks needs more room."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One thing that conditions may differ in.

    Attributes:
        keys: those of a job's configuration that set it, as GROUP.NAME.
        default: its level where nothing else is said; None if that is the model's.
        entries: those of a run's identity that follow from it, as ASPECT.KEY.
        is_arithmetic: two levels compute the same, rounded otherwise: what changes between them is noise.
    """

    keys: tuple[str, ...]
    default: str | None = None
    entries: tuple[str, ...] = ()
    is_arithmetic: bool = False


FACTORS: Mapping[str, Factor] = MappingProxyType(
    {
        "kv_key": Factor(("engine.kv_key",), KVType.f16.value, ("settings.kv_key",)),
        "kv_value": Factor(("engine.kv_value",), KVType.f16.value, ("settings.kv_value",)),
        "flash_attention": Factor(
            ("engine.flash_attention",), FlashAttention.auto.value, ("settings.flash_attention",), is_arithmetic=True
        ),
        "context": Factor(("engine.context", "model.context"), None, ("settings.context",)),
        "lanes": Factor(("engine.lanes",), "several", ("settings.lanes",), is_arithmetic=True),
        "gpu_layers": Factor(("engine.gpu_layers",), "0", ("settings.gpu_layers",), is_arithmetic=True),
        "chat_template": Factor(("model.chat_template",), "the file's", _OF_PROMPT),
        "imatrix": Factor(("model.imatrix",), "none"),
        "output_type": Factor(("model.output_type",), "llama.cpp's"),
        "embedding_type": Factor(("model.embedding_type",), "llama.cpp's"),
    }
)
"""Every factor but the weights and a template's arguments, in the order in which labels name them."""

OF_WEIGHTS = ("imatrix", "output_type", "embedding_type")
"""Those that make another file of the same quant."""


def get_factor(name: str) -> Factor:
    """Return the factor of this name; any name behind `template.` is one."""
    if name.startswith(TEMPLATE):
        entry = f"prompt.{name}"
        return Factor((f"model.{name}",), UNSET, (entry, *_OF_PROMPT))
    return FACTORS[name]


def read_levels(config: Config) -> dict[str, str]:
    """Return a job's level of every factor but the weights."""
    model, engine = config.model, config.engine
    levels = {
        "chat_template": Path(model.chat_template).name if model.chat_template else "the file's",
        "imatrix": Path(model.imatrix).name if model.imatrix else "none",
        "output_type": model.output_type or "llama.cpp's",
        "embedding_type": model.embedding_type or "llama.cpp's",
    }
    if engine.name == "llama_cpp":
        levels |= {
            "kv_key": engine.kv_key.value,
            "kv_value": engine.kv_value.value,
            "flash_attention": engine.flash_attention.value,
            "context": str(engine.context),
            "lanes": "1" if engine.lanes == 1 else "several",
            "gpu_layers": str(engine.gpu_layers),
        }
    return levels | {TEMPLATE + key: write_argument(value) for key, value in model.template.items()}


def write_argument(value: object) -> str:
    """Write an argument of the chat template as a level: without spaces, so that a label can be read back."""
    plain = value.value if isinstance(value, Enum) else value
    if isinstance(plain, str):
        return plain
    return json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Case:
    """What one job runs, as far as labels depend on it.

    Attributes:
        model: its name.
        task: its name.
        weights: name of the quant.
        levels: of every other factor that is known.
        context: the model's own context: the default of that factor.
    """

    model: str
    task: str
    weights: str
    levels: Levels
    context: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """What is compared apart from everything else."""
        return self.model, self.task


def read_case(config: Config) -> Case:
    """Return a job's case."""
    return Case(config.model.name, config.task.name, config.quant.name, read_levels(config), str(config.model.context))


@dataclass(frozen=True, slots=True)
class Baseline:
    """The condition that others are compared with, as `stats.baseline` names it.

    Attributes:
        weights: name of the quant.
        levels: of the factors that are named.
    """

    weights: str
    levels: Levels

    @property
    def label(self) -> str:
        """Its condition's name."""
        return _write_label(self.weights, self.levels)


_LEVEL = re.compile(r"\s+([A-Za-z_][\w.]*)=(\S+)$")


def parse_baseline(text: str) -> Baseline:
    """Read `stats.baseline`: a quant, then levels of other factors, as in `Q8_0 context=8192`.

    A name that is no factor's is an argument of the chat template, as in labels.
    """
    levels: dict[str, str] = {}
    rest = text.strip()
    while match := _LEVEL.search(rest):
        name, level = match.groups()
        levels |= dict.fromkeys(_spell_out(name), level)
        rest = rest[: match.start()]
    return Baseline(rest, levels)


def find_factor_problems(stats: StatsConfig) -> Iterator[str]:
    """Yield a sentence for each of `stats.factors` that is none."""
    for name in stats.factors or ():
        known = name in (WEIGHTS, ALL_ARGUMENTS) or name in PAIRS or name in FACTORS or name.startswith(TEMPLATE)
        if not known:
            yield (
                f"stats.factors: there is no factor {name}; there are {WEIGHTS}, {', '.join(FACTORS)}, {ALL_ARGUMENTS} "
                f"(all arguments of the chat template), and {TEMPLATE}NAME for one of them."
            )


PAIRS: Mapping[str, tuple[str, ...]] = MappingProxyType({"kv": ("kv_key", "kv_value")})
"""Names that stand for several factors at one level."""


def _spell_out(name: str) -> tuple[str, ...]:
    """Return the factors that a name in a label, or in a user's list, stands for."""
    if name in PAIRS:
        return PAIRS[name]
    known = name in FACTORS or name.startswith(TEMPLATE)
    return (name if known else TEMPLATE + name,)


class Conditions:
    """The conditions of some jobs or runs: which factors vary, what the reference is, and how each is called."""

    def __init__(
        self,
        cases: Sequence[Case],
        stats: StatsConfig,
        declared: Mapping[tuple[str, str], Levels] = MappingProxyType({}),
    ) -> None:
        """Find the factors that vary within a model's task.

        Args:
            cases: all of them, in the order in which they were asked for.
            stats: which factors count, and which condition is the baseline.
            declared: references that a sweep has declared, by model and task.
        """
        self._baseline = parse_baseline(stats.baseline)
        self._allowed = stats.factors
        by_place: dict[tuple[str, str], list[Case]] = {}
        for case in cases:
            by_place.setdefault(case.place, []).append(case)
        self._references = {
            place: self._choose(of_place, declared.get(place, {})) for place, of_place in by_place.items()
        }

    def _choose(self, cases: Sequence[Case], declared: Levels) -> dict[str, str]:
        """Choose the reference: the level that is named, was declared, is the default, or was asked for first."""
        names = [name for name in FACTORS if any(name in case.levels for case in cases)]
        names += list(dict.fromkeys(name for case in cases for name in case.levels if name.startswith(TEMPLATE)))
        chosen = {}
        # The baseline's weights decide, if they are there.
        of_weights = [case for case in cases if case.weights == self._baseline.weights] or cases
        for name in names:
            if not self._is_allowed(name) or len({_level_of(case, name) for case in cases}) == 1:
                continue
            there = [_level_of(case, name) for case in of_weights]
            default = _default_of(of_weights[0], name)
            usual = default if default in there else there[0]
            chosen[name] = self._baseline.levels.get(name, declared.get(name, usual))
        return chosen

    def _is_allowed(self, name: str) -> bool:
        if self._allowed is None:
            return True
        named = {each for listed in self._allowed for each in _spell_out(listed)}
        return name in named or (name.startswith(TEMPLATE) and ALL_ARGUMENTS in self._allowed)

    @property
    def baseline(self) -> str:
        """The baseline's label."""
        return self._baseline.label

    @property
    def references(self) -> Mapping[tuple[str, str], Levels]:
        """The reference's level of each factor that varies, by model and task."""
        return self._references

    def select_varying(self, case: Case) -> dict[str, str]:
        """Return the levels of the factors that vary in the case's task."""
        return {name: _level_of(case, name) for name in self._references[case.place]}

    def is_placebo(self, case: Case) -> bool:
        """Tell if the case is the baseline in all but how the same is computed."""
        reference = self._references[case.place]
        changed = [name for name in reference if _level_of(case, name) != reference[name]]
        is_same = case.weights == self._baseline.weights and all(get_factor(name).is_arithmetic for name in changed)
        return is_same and bool(changed)

    def label(self, case: Case) -> str:
        """Return the condition's name: the weights, and the levels of other factors that are not the reference's."""
        return _label(case, self._references[case.place], self._baseline)


def _label(case: Case, reference: Levels, baseline: Baseline) -> str:
    levels = {name: _level_of(case, name) for name in reference}
    shown = {name: level for name, level in levels.items() if level != reference[name] or name in baseline.levels}
    return _write_label(case.weights, shown)


def _level_of(case: Case, name: str) -> str:
    return case.levels.get(name, _default_of(case, name))


def _default_of(case: Case, name: str) -> str:
    default = get_factor(name).default
    return default if default is not None else case.context


def _write_label(weights: str, levels: Levels) -> str:
    """Write a label; factors that one name stands for are one part of it if they are at one level."""
    left, parts = dict(levels), [weights]
    for name in levels:
        if name not in left:
            continue
        for short, names in PAIRS.items():
            if name in names and len({left.get(each) for each in names}) == 1:
                parts.append(f"{short}={left[name]}")
                for each in names:
                    del left[each]
                break
        else:
            parts.append(f"{name.removeprefix(TEMPLATE)}={left.pop(name)}")
    return " ".join(parts)


def join_names(factors: Sequence[str]) -> str:
    """Name factors that only change together."""
    short = next((short for short, names in PAIRS.items() if set(names) == set(factors)), None)
    return short or ", ".join(name.removeprefix(TEMPLATE) for name in factors)


def find_conditions(jobs: Sequence[Config]) -> Conditions:
    """Return the conditions of a sweep's jobs, which share their statistics."""
    return Conditions([read_case(job) for job in jobs], jobs[0].stats)


def declare_references(conditions: Conditions) -> None:
    """Tell the sweep's jobs, whatever process they run in, what the references are."""
    varying = [[*place, levels] for place, levels in conditions.references.items() if levels]
    os.environ.pop(REFERENCES, None)
    if varying:
        os.environ[REFERENCES] = json.dumps(varying)


def read_references() -> dict[tuple[str, str], Levels]:
    """Return what the sweep has declared, by model and task; nothing for a job on its own."""
    return {(model, task): levels for model, task, levels in json.loads(os.environ.get(REFERENCES, "[]"))}


def find_reference(config: Config) -> Levels:
    """Return the reference's level of each factor that the job's sweep varies; nothing of a job on its own."""
    return read_references().get((config.model.name, config.task.name), {})


def name_condition(config: Config) -> str:
    """Return the label of a job's condition within its sweep."""
    return _label(read_case(config), find_reference(config), parse_baseline(config.stats.baseline))


def is_baseline(config: Config) -> bool:
    """Tell if the others of the job's sweep are compared with it."""
    reference, case = find_reference(config), read_case(config)
    at_reference = all(_level_of(case, name) == level for name, level in reference.items())
    return at_reference and case.weights == parse_baseline(config.stats.baseline).weights
