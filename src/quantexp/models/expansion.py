"""Words of a command that stand for many files, a folder's or those of `weights`, as the plain overrides of a sweep."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, Transformer, ValueType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from quantexp.config.composition import compose_ahead, quote_value, replace_overrides
from quantexp.config.condition import Baseline, parse_baseline
from quantexp.config.weights import Weights, parse_weights
from quantexp.models.folder import Folder, read_folder
from quantexp.util.errors import UserError

_CONCERNED = re.compile(
    r"(?:model|model\.source)=.*\bfolder\b|\+?weights=|\+?experiment=|hydra\.searchpath=|(?:--config-|-c[dnp]\b)"
)
"""What may choose a folder or weights, or a file of conf/ that does; nothing else is looked at twice."""

_PLAIN = re.compile(r"[A-Za-z][\w.+/-]*", re.ASCII)
_WORDS_OF_YAML = frozenset({"null", "true", "false", "inf", "nan"})


@dataclass(frozen=True, slots=True)
class _Command:
    """A command's overrides, and what they compose to without those that are swept.

    Attributes:
        words: the overrides as typed.
        parsed: the same, by their keys.
        swept: hydra.sweeper.params.
        composed: the configuration.
        is_sweep: whether several values of a key are several jobs.
        shows: whether the configuration is only shown.
    """

    words: Sequence[str]
    parsed: Mapping[str, Override]
    swept: Mapping[str, object]
    composed: DictConfig
    is_sweep: bool
    shows: bool

    def list_values(self, key: str, among: Sequence[str] = ()) -> list[str]:
        """List the values that a key is given, on the command line or in hydra.sweeper.params; none if it is not.

        A pattern chooses from `among`.
        """
        if (override := self.parsed.get(key)) is None:
            if (given := self.swept.get(key)) is None:
                return []
            if isinstance(given, list):
                return [str(value) for value in given]
            override = OverridesParser.create().parse_override(f"{key}={given}")
        value = override._value
        if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
            return cast(Glob, value).filter(list(among))
        found = list(override.sweep_iterator(Transformer.identity)) if override.is_sweep_override() else [value]
        found = found[0] if len(found) == 1 and isinstance(found[0], list) else found
        return [each.text if isinstance(each, QuotedString) else str(each) for each in found]

    def replace(self, changes: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the words with other values of some keys."""
        kept = [word for word in self.words if _key(word) not in changes]
        return kept + [f"{key}={','.join(map(_quote, values))}" for key, values in changes.items() if values]


def expand_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments in which a folder and weights are plain overrides.

    Raises:
        UserError: the folder, or one of its files, cannot be had.
    """
    given, unknown = get_args_parser().parse_known_args(list(arguments))
    if unknown or given.shell_completion or given.info or not _is_concerned(arguments):
        return list(arguments)
    expand = partial(
        expand_words,
        folder=given.config_dir, name=given.config_name, is_sweep=given.multirun, shows=bool(given.cfg),
    )  # fmt: skip
    return replace_overrides(arguments, expand)


def expand_words(
    words: Sequence[str],
    *,
    folder: str | None = None,
    name: str | None = None,
    is_sweep: bool = True,
    shows: bool = False,
) -> list[str]:
    """Return overrides in which a folder and weights are plain ones.

    Args:
        words: the overrides as typed.
        folder: of further files of configuration.
        name: of the main one.
        is_sweep: whether several values of a key are several jobs.
        shows: whether the configuration is only shown.

    Raises:
        UserError: the folder, or one of its files, cannot be had, or what is asked of them makes no sense.
    """
    if not _is_concerned(words) and folder is None and name is None:
        return list(words)
    words = [_mend(word) for word in words]
    # Labels are no options of the group; they are replaced before Hydra looks.
    composed = compose_ahead([each for each in words if _key(each) != "quant"], folder=folder, name=name)
    parsed = {str(each.key_or_group): each for each in OverridesParser.create().parse_overrides(list(words))}
    swept = OmegaConf.to_container(OmegaConf.create(composed.hydra.sweeper.get("params") or {}), resolve=False)
    assert isinstance(swept, dict)
    is_sweep = is_sweep or composed.hydra.mode == RunMode.MULTIRUN
    command = _Command(words, parsed, {str(key): swept[key] for key in swept}, composed, is_sweep, shows)
    sources = {*command.list_values("model"), *command.list_values("model.source"), composed.model.source}
    if command.list_values("weights") or composed.weights is not None:
        if "folder" in sources:
            raise UserError("weights names files itself: leave out model=folder.")
        return _expand_weights(command)
    if "folder" not in sources:
        return list(words)
    for key in ("model", "model.source", "model.path"):
        if len(values := command.list_values(key)) > 1:
            raise UserError(
                f"{key}={','.join(values)}: a sweep with model=folder has one folder; leave out the others."
            )
    return _expand_folder(command)


def _expand_folder(command: _Command) -> list[str]:
    model, stats = command.composed.model, command.composed.stats
    if model.quantize:
        raise UserError("model.quantize=true makes quants from one file: give that with model=local model.path=FILE.")
    if OmegaConf.is_missing(model, "path") or model.path is None:
        raise UserError("model=folder needs the folder: add model.path=FOLDER.")
    folder = read_folder(model.path)
    labels = _choose_labels(command, folder)
    baseline = command.list_values("stats.baseline")
    if not baseline and not OmegaConf.is_missing(stats, "baseline"):
        baseline = [stats.baseline]
    baseline = [_correct_baseline(each, folder) for each in baseline]
    if not baseline:
        baseline = [next(each for each in folder.labels if each in labels or len(labels) == 1)]
    if not command.is_sweep and len(labels) > 1:
        if not command.shows or _is_chosen(command):
            raise UserError(
                f"{folder.path} has {', '.join(folder.labels)}: add -m to compare them, or choose one with quant=LABEL."
            )
        labels = [parse_baseline(baseline[0]).weights]
    first = {parse_baseline(each).weights for each in baseline}  # as some comparisons need what it has found
    labels = sorted(labels, key=lambda label: label not in first)
    changes = {"quant": ["as-is"], "quant.name": labels, "stats.baseline": baseline}
    if OmegaConf.is_missing(model, "name"):
        changes["model.name"] = [folder.path.name]
    return command.replace(changes)


def _correct_baseline(text: str, folder: Folder) -> str:
    """Return what `stats.baseline` names, with the label as the folder has it."""
    given = parse_baseline(text)
    return Baseline(folder.find(given.weights, "stats.baseline").label, given.levels).label


def _choose_labels(command: _Command, folder: Folder) -> list[str]:
    """Return the labels of the quants that are asked for; all if none is.

    Raises:
        UserError: there is no such file.
    """
    if not _is_chosen(command):
        return folder.labels
    key = "quant.name" if command.list_values("quant.name", folder.labels) else "quant"
    asked = command.list_values(key, folder.labels)
    if not asked:
        raise UserError(f"The pattern of {key} fits none of the quants in {folder.path}: {', '.join(folder.labels)}.")
    return list(dict.fromkeys(folder.find(each).label for each in asked))


def _is_chosen(command: _Command) -> bool:
    return any(key in command.parsed or key in command.swept for key in ("quant", "quant.name"))


def _expand_weights(command: _Command) -> list[str]:
    if _is_chosen(command):
        raise UserError("weights chooses the quants too, as in OWNER/NAME:Q4_K_M: leave out quant=.")
    given = command.list_values("weights") or [command.composed.weights]
    weights = [parse_weights(each) for each in dict.fromkeys(given)]
    _check_names(weights, given)
    if not command.is_sweep and len(weights) > 1:
        raise UserError("weights names several files: add -m to compare them.")
    changes = {"weights": list(dict.fromkeys(given)), "model.name": _name_model(command, weights)}
    if _chooses_default(command):
        changes["model"] = ["hub"]  # the demo model's own settings are not meant
    if not command.list_values("stats.baseline") and OmegaConf.is_missing(command.composed.stats, "baseline"):
        changes["stats.baseline"] = [weights[0].name]
    if command.shows and len(weights) == 1:
        stands_for = {key: [value] for key, value in weights[0].keys.items() if isinstance(value, str)}
        changes |= {"quant": ["as-is"], **stands_for}
    return command.replace({key: values for key, values in changes.items() if values})


def _check_names(weights: Sequence[Weights], given: Iterable[str]) -> None:
    words: dict[str, list[str]] = {}
    for each, word in zip(weights, dict.fromkeys(given), strict=True):
        words.setdefault(each.name.upper(), []).append(word)
    for alike in words.values():
        if len(alike) > 1:
            name = parse_weights(alike[0]).name
            raise UserError(
                f"{' and '.join(alike)} would both be called {name}, so that one would hide the other: leave one out, "
                "or make a sweep for each."
            )


def _name_model(command: _Command, weights: Sequence[Weights]) -> list[str]:
    """Return the one name of the model, if nothing else gives it.

    Raises:
        UserError: the repositories have different names, or there are none.
    """
    model = OmegaConf.to_container(command.composed.model, resolve=False)
    assert isinstance(model, dict)
    is_named = not _chooses_default(command) and model["name"] not in {"${model.repository}", "local"}
    if (given := command.list_values("model.name")) or is_named:
        return given
    names = list(dict.fromkeys(each.model for each in weights if each.model is not None))
    if len(names) == 1:
        return names
    if names:
        raise UserError(
            f"The repositories are called {' and '.join(names)}, and all weights of a comparison are one model's: if "
            f"they are, add model.name={min(names, key=len)}."
        )
    raise UserError("What the model of these files is called is yours to say: add model.name=NAME.")


def _chooses_default(command: _Command) -> bool:
    """Return whether nothing chooses the model, which is the demo's then."""
    from quantexp.config.reference import default_option  # only now: most commands do without

    chosen: str = command.composed.hydra.runtime.choices.model
    return "model" not in command.parsed and chosen == default_option("model")


def _is_concerned(words: Iterable[str]) -> bool:
    return any(_CONCERNED.match(word) for word in words)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _mend(word: str) -> str:
    """Quote a path in the home folder, which Hydra's grammar cannot read without quotes."""
    key, _, value = word.partition("=")
    if key in {"model.path", "weights"} and not set(value) & set("'\"[({"):
        return f"{key}={','.join(_quote(each) if each.startswith('~') else each for each in value.split(','))}"
    return word


def _quote(text: str) -> str:
    """Return the text as Hydra's grammar reads it back."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML else quote_value(text)
