"""A folder of GGUFs on this machine: the quants in it, each under a label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.listing import is_named_after_quant, label_files
from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class QuantFile:
    """A quant in a folder.

    Attributes:
        label: what it is called.
        parts: the file, or all its parts in order.
        shared: the label in its name that others have too; empty if its name has none, None if that is its own.
        bytes: of all parts.
    """

    label: str
    parts: tuple[Path, ...]
    shared: str | None
    bytes: int

    @property
    def path(self) -> Path:
        """The file, or its first part."""
        return self.parts[0]


@dataclass(frozen=True, slots=True)
class Folder:
    """The GGUFs in a folder.

    Attributes:
        path: of the folder.
        files: the quants, the largest first.
        left_out: why other GGUFs are no quants, by their names.
    """

    path: Path
    files: tuple[QuantFile, ...]
    left_out: dict[str, str]

    @property
    def labels(self) -> list[str]:
        """The labels, the largest file's first."""
        return [file.label for file in self.files]

    def find(self, label: str, key: str = "quant") -> QuantFile:
        """Return the file of a label, in any letter case.

        Args:
            label: of the file.
            key: that was given the label.

        Raises:
            UserError: there is none.
        """
        exact = [file for file in self.files if file.label == label]
        for file in exact or [file for file in self.files if file.label.upper() == label.upper()]:
            return file
        raise UserError(f"{key}={label}: {self.path} has no such file; choose one of {', '.join(self.labels)}.")


def read_folder(place: str) -> Folder:
    """Look at the names and the sizes of a folder's files.

    Those in a folder within count if that is named after a quant, as publishers put split files.

    Raises:
        UserError: it is no folder, or there is no GGUF of a model in it.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        other = ": it is a file, which model=local takes" if folder.is_file() else ""
        raise UserError(
            f"model.path={place} is not a folder{other}; give one with GGUFs in it, "
            f"absolute or relative to {Path.cwd()}."
        )
    folder = folder.resolve()
    within = [each for each in sorted(folder.iterdir()) if each.is_dir()]
    names = _list_names(folder)
    left_out = {}
    for each in within:
        if is_named_after_quant(each.name):
            names += [f"{each.name}/{name}" for name in _list_names(each)]
        elif inside := _list_names(each):
            left_out[f"{each.name}/"] = f"a folder with {len(inside)} files that is not named after a quant"
    labelled, unfit = label_files(name for name in names if (folder / name).exists())
    left_out |= unfit | {name: "a link to nothing" for name in names if not (folder / name).exists()}
    files = []
    for found in labelled:
        parts = tuple(folder / part for part in found.parts)
        files.append(QuantFile(found.label, parts, found.shared, sum(part.stat().st_size for part in parts)))
    if not files:
        raise UserError(
            f"model.path={place} holds no GGUF of a model"
            + (f" ({describe_left_out(left_out)})" if left_out else "")
            + "; give the folder that the files are in."
        )
    return Folder(folder, tuple(sorted(files, key=lambda file: (-file.bytes, file.label))), left_out)


def find_in_folder(model: ModelConfig, quant: QuantConfig) -> Path:
    """Return the file of a quant, or its first part.

    Raises:
        UserError: there is none, or there is no such folder.
    """
    if not model.path:
        raise UserError("model=folder needs model.path; add model.path=FOLDER to the command.")
    return read_folder(model.path).find(quant.name).path


def describe_left_out(left_out: dict[str, str]) -> str:
    """Name the files that are no quants, and why, without a full stop."""
    return "left out: " + "; ".join(f"{name}, {why}" for name, why in sorted(left_out.items()))


def describe_labels(files: Sequence[QuantFile]) -> list[str]:
    """Tell which files are called by their names, as they share a label or have none; sentences without a full stop."""
    sentences = []
    for shared in dict.fromkeys(file.shared for file in files if file.shared is not None):
        alike = [file for file in files if file.shared == shared]
        reason = f"named {shared}" if shared else "named after no quant"
        names, labels = (", ".join(each) for each in ([file.path.name for file in alike], [f.label for f in alike]))
        sentences.append(f"{reason}: {names}; called {labels}")
    return sentences


def _list_names(folder: Path) -> list[str]:
    """List the files that are named as GGUFs, or as pieces of one."""
    return [each.name for each in sorted(folder.iterdir()) if ".gguf" in each.name.lower() and not each.is_dir()]
