"""Errors of Hydra and OmegaConf as sentences."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, cast

from quantexp.util.native.file_types import list_quants
from quantexp.util.native.library import MEND


def sentence_of_hydra(error: BaseException) -> str:
    """Turn an error of Hydra or OmegaConf, whose messages run over many lines, into one sentence with what to do."""
    from hydra.errors import OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    message = str(error)
    for cause in (error, error.__cause__):
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            merged = re.match(r"Error merging override (.*)", message)
            return _about_key(cause, merged[1] if merged else "")
    if option := re.search(_NO_OPTION, message, flags=re.DOTALL):
        return _no_option(option["group"], option["path"].removeprefix(f"{option['group']}/"), option["known"].split())
    for pattern, sentence in _HYDRA_SENTENCES:
        found = re.search(pattern, message, flags=re.DOTALL)
        if found:
            return sentence.format(**{name: " ".join((text or "").split()) for name, text in found.groupdict().items()})
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    lines = [line.strip() for line in message.splitlines()]
    return _sentence(" ".join(line for line in lines if line and not line.startswith("See https://")))


_NO_OPTION = r"Could not find '(?P<path>[^']+)'\s+Available options in '(?P<group>[^']+)':\s+(?P<known>.+?)(?:\n\S|\Z)"

_LABEL = re.compile(r"(UD-|i1-)?(I?Q|TQ|BF|F|MXFP|NVFP)\d[A-Z0-9_]*", flags=re.IGNORECASE)
"""What publishers call the quant of a GGUF."""


def _no_option(group: str, option: str, known: Sequence[str]) -> str:
    """Name what was probably meant; else everything there is."""
    if close := _same_quant(option, known) if group == "quant" else _close(option, known):
        return f"{group}={option}: there is no such option; did you mean {group}={close[0]}?"
    sentence = f"{group}={option}: there is no such option; choose one of {', '.join(known)}"
    if group == "quant" and not list_quants():
        sentence += f"; the types of GGUF files are options once llama-cpp-python is installed: {MEND}"
    elif group == "quant" and _LABEL.fullmatch(option):
        sentence += f"; a GGUF of any other type is quant=as-is quant.name={option}, with model=local or model=hub"
    return f"{sentence}."


def _close(name: str, known: Iterable[str]) -> list[str]:
    """Find the known name that a mistyped one most likely stands for."""
    folded = {each.casefold(): each for each in known}
    return [folded[each] for each in get_close_matches(name.casefold(), folded, 1, cutoff=0.7)]


def _same_quant(label: str, known: Iterable[str]) -> list[str]:
    """Find the quant that is spelt another way; one that differs in a letter is another quant, not a slip."""
    spelt = {re.sub(r"[\W_]", "", each).casefold(): each for each in known}
    same = spelt.get(re.sub(r"[\W_]", "", label).casefold())
    return [] if same is None else [same]


def _unreadable(override: str) -> str:
    """Say how to write what Hydra's grammar cannot read."""
    key, equals, value = override.partition("=")
    if equals and (pattern := re.fullmatch(r"glob\((.*)\)", value)):
        quoted = f"'{key}=glob(\"{pattern[1]}\")'"
        return f"{override}: the pattern needs quotes, one kind for the shell and one for Hydra: {quoted}."
    if equals and key and not set(value) & set("'\""):
        return f"{override} cannot be read as KEY=VALUE; put quotes around the value: '{key}=\"{value}\"'."
    return f"{override} cannot be read as KEY=VALUE; put quotes around the value: 'KEY=\"VALUE\"'."


_HYDRA_SENTENCES = (
    (
        r"Could not load 'hydra/launcher/(?:submitit_)?(?P<launcher>joblib|slurm|ray)(?:_plugin)?'",
        "hydra/launcher={launcher} needs Hydra's plugin for it, which is not installed; "
        'run: pip install "quantexp[{launcher}]"',
    ),
    (
        r"Ambiguous value for argument '(?P<key>runs|task\.stop)=(?P<given>.+?)'\s+1\.",
        "{key}={given}: a list is needed; put it into brackets: '{key}=[{given}]'.",
    ),
    (
        r"Ambiguous value for argument '(?P<given>.+?)'\s+1\.",
        "{given} names several values; add -m to run a job for each of them.",
    ),
    (
        r"Sweep parameters '(?P<given>.+)' requires --multirun",
        "{given} names several values; add -m to run a job for each of them.",
    ),
    (
        r"Error parsing override '(?P<given>.*)'\s+missing EQUAL",
        "{given} has no value; write it as KEY=VALUE.",
    ),
    (
        r"An item is already at '(?P<key>.+?)'.*'(?P=key)=(?P<value>.*?)'\s+Or add",
        "+{key}={value} adds a key that is there already; leave out the +.",
    ),
    (
        r"Multiple values for (?P<key>[^\s]+)\.|(?P<twice>\S+) appears more than once in the final defaults list",
        "{key}{twice} is chosen twice; choose it once, without a +: {key}{twice}=NAME.",
    ),
    (
        r"Could not override '(?P<key>[^']+)'\.\s+(?:No match in the defaults list|Did you mean to override)",
        "{key}: this command has no such group; --help lists its groups and keys.",
    ),
    (
        r"Could not override ''",
        "A key is missing before the = of an override; write it as KEY=VALUE.",
    ),
    (
        r"Could not delete from config\. '(?P<key>[^']+)' does not exist",
        "~{key}: there is no such key.",
    ),
    (
        r"Config group override must be a string or a list",
        "A config group was given something that is not a name; choose one of its options, for example quant=Q8_0.",
    ),
)
"""What Hydra says, and what that means to someone who has typed a command; the first that fits is taken."""


def _about_key(error: Any, override: str) -> str:
    """Return the sentence for a key or a value that the configuration's types refuse."""
    key, message = str(error.full_key), str(error.msg or error).splitlines()[0].strip()
    if re.match(r"Key '.*' not in '", message) or "is not in struct" in message:
        return _no_key(key, _keys(error.object_type, key.rpartition(".")[0]))
    if empty := re.match(r"While dereferencing interpolation '\$\{(?P<of>.*)\}': Incompatible value 'None'", message):
        return f"{empty['of']} has no value; add {empty['of']}=VALUE to the command."
    if "missing mandatory value" in message.lower():
        return f"{key} has no value; add {key}=VALUE to the command."
    if "is not Optional" in message:
        return f"{key}=null: this key needs a value."
    if "Invalid type assigned" in message:
        return f"{key} holds several keys; set them one by one, as in {key}.KEY=VALUE."
    value = re.match(
        r"(?:Invalid v|V)alue '(?P<value>.*?)'(?: of type '.*?' could not|, expected| is not a valid)", message
    )
    for sign, needed in _NEEDED.items():
        if value and sign in message:
            return f"{key}={value['value']}: {needed} is needed."
    for pattern, sentence in _OMEGACONF_SENTENCES:
        if found := re.search(pattern, f"{message} {override}"):
            return sentence.format(key=key, given=override or key, **found.groupdict())
    choices = re.search(r"expected one of \[(?P<known>.*)\]", message)
    if value and choices:
        return f"{key}={value['value']}: there is no such choice; choose one of {choices['known']}."
    return _sentence(f"{key}: {message}")


def _no_key(key: str, siblings: Sequence[str]) -> str:
    """Name the keys that were probably meant; else those that stand where it was looked for."""
    last = key.rpartition(".")[2]
    named = {each.rpartition(".")[2]: each for each in siblings}
    close = [named[each] for each in _close(last, named)]
    close = close or [each for each in _leaves(_schema()) if each.rpartition(".")[2] == last]
    if close:
        return f"{key}: there is no such key; did you mean {' or '.join(close)}?"
    known = f"; choose one of {', '.join(siblings)}" if siblings else ""
    return f"{key}: there is no such key{known}."


def _schema() -> type:
    """Return the type of a job's configuration, which every command has registered with Hydra."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    return cast(type, OmegaConf.get_type(ConfigStore.instance().load("schema.yaml").node))


def _leaves(schema: type, parent: str = "") -> Iterator[str]:
    """List every key of a configuration that holds a value."""
    for field in fields(schema):
        name = f"{parent}.{field.name}" if parent else field.name
        if isinstance(field.type, type) and is_dataclass(field.type):
            yield from _leaves(field.type, name)
        else:
            yield name


_OMEGACONF_SENTENCES = (
    (
        r"is not a ListConfig, list or tuple|Cannot merge DictConfig with ListConfig.*=\{",
        "{given}: a list is needed, as in {key}=[A,B].",
    ),
    (r"Cannot assign \w+ to Dict|Cannot merge ", "{given}: keys with values are needed, as in '{key}={{KEY: VALUE}}'."),
    (r"Cannot convert '\w+' to string", "{given}: one text is needed, without brackets."),
    (
        r"Interpolation key '(?P<name>[^']*)' not found",
        "{key}: ${{{name}}} names no key; in single quotes, ${{quant.name}} stands for the quant of each job.",
    ),
    (r"Recursive interpolation", "{key}: its ${{...}} leads back to itself; give it a value."),
    (r"Environment variable '(?P<name>[^']*)' not found", "{key}: the environment variable {name} is not set; set it."),
    (
        r"Unsupported interpolation type (?P<name>\S+)",
        "{key}: ${{{name}:...}} means nothing here; ${{oc.env:NAME}} reads an environment variable.",
    ),
)
"""What OmegaConf says, and after it the override, and what to give instead; the first that fits is taken."""

_NEEDED = {
    "converted to Integer": "a whole number",
    "converted to Float": "a number",
    "is not a valid bool": "true or false",
}
"""What OmegaConf says of a value of the wrong type, and what to give instead."""


def _keys(schema: object, parent: str = "") -> list[str]:
    """Return the keys of a part of the configuration, as they are written on the command line."""
    if not (isinstance(schema, type) and is_dataclass(schema)):
        return []
    return [f"{parent}.{field.name}" if parent else field.name for field in fields(schema)]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
