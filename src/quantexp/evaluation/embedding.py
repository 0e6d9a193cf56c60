"""The embedder: a model that turns texts into vectors, whose threshold is chosen and measured before it counts."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.config import ModelConfig, QuantConfig
from quantexp.config.grading import EmbedderConfig
from quantexp.stats import Agreement, agreement, choose_threshold
from quantexp.tasks.graders.calibration import load_pairs
from quantexp.tasks.graders.judged import Pair
from quantexp.tracking.tags import GRADING
from quantexp.util.errors import UserError
from quantexp.util.files import hash_file
from quantexp.util.terminal import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

EmbedTexts = Callable[[Sequence[str]], "NDArray[np.float64]"]
"""Returns unit vectors of texts, shape (texts, width)."""


@dataclass(frozen=True, slots=True)
class EmbedderCalibration:
    """Measurement of an embedder on bundled pairs.

    Attributes:
        pairs: name of the pairs.
        threshold: the similarity from which on two texts count as the same, chosen on one half of the pairs.
        chosen_on: number of pairs in that half.
        chosen: agreement there, which is too good: the threshold was chosen for it.
        agreement: on the other half.
    """

    pairs: str
    threshold: float
    chosen_on: int
    chosen: Agreement
    agreement: Agreement

    @property
    def words(self) -> str:
        """The measurement in a sentence without its end."""
        found = self.agreement
        return (
            f"{self.pairs}: threshold {self.threshold:.3f}, chosen on {self.chosen_on} pairs; on the other {found.n} "
            f"agrees with {100 * found.accuracy:.0f}% of the labels, kappa {found.kappa_text}"
        )


class TextEmbedder:
    """An embedder of any kind."""

    def __init__(self, name: str, identity: str, embed: EmbedTexts, least: float) -> None:
        """Take a model.

        Args:
            name: what reports call it.
            identity: its files by their hash, in words.
            embed: returns vectors.
            least: Cohen's kappa below which it is refused.
        """
        self._name, self._identity, self._embed, self._least = name, identity, embed, least
        self._calibrations: dict[str, EmbedderCalibration] = {}

    @property
    def identity(self) -> Mapping[str, str]:
        """All that its similarities depend on, for the identity of a run."""
        return {"embedder": f"{self._name} ({self._identity})"}

    @property
    def facts(self) -> Mapping[str, str]:
        """The identity, and what was measured, as tags of a run."""
        measured = {f"{GRADING}embedder.{name}": each.words for name, each in self._calibrations.items()}
        return {f"{GRADING}embedder": self.identity["embedder"], **measured}

    def calibrate(self, calibration: str) -> None:
        """Choose the threshold on one half of the bundled pairs of this name, and measure it on the other.

        Raises:
            UserError: its agreement with their labels is below `embedder.agreement`.
        """
        if calibration not in self._calibrations:
            self._calibrations[calibration] = self.measure(calibration)
            log.info("embedder %s: %s", self._name, self._calibrations[calibration].words)
        found = self._calibrations[calibration].agreement
        if not found.kappa >= self._least:
            raise UserError(
                f"The embedder {self._name} agrees too little with the bundled pairs of {calibration} for its verdicts "
                f"to count: on {found.n} of them Cohen's kappa is {found.kappa_text}, and "
                f"embedder.agreement={self._least:g} is the least; choose another embedder, or a grader that asks a "
                "judge."
            )

    def measure(self, calibration: str) -> EmbedderCalibration:
        """Choose and measure a threshold on the bundled pairs of this name."""
        pairs = load_pairs(calibration)
        similarities = self._similarities([(pair.first, pair.second) for pair in pairs])
        halves = {
            half: [
                (similarity, pair.label)
                for pair, similarity in zip(pairs, similarities, strict=True)
                if pair.is_for_choosing == half
            ]
            for half in (True, False)
        }
        threshold = choose_threshold(*zip(*halves[True], strict=True))
        found = {
            half: agreement([similarity >= threshold for similarity, _ in rows], [label for _, label in rows])
            for half, rows in halves.items()
        }
        return EmbedderCalibration(calibration, threshold, len(halves[True]), found[True], found[False])

    def compare(self, calibration: str, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """Return the similarity of each pair of texts, from -1 to 1, and whether that is at or above the threshold."""
        threshold = self._calibrations[calibration].threshold
        return [(similarity, similarity >= threshold) for similarity in self._similarities(pairs)]

    def _similarities(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the cosine of each pair's vectors; each text is embedded once."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        if not texts:
            return []
        vectors = dict(zip(texts, self._embed(texts), strict=True))
        return [float(vectors[first] @ vectors[second]) for first, second in pairs]


def open_text_embedder(config: EmbedderConfig) -> TextEmbedder:
    """Open an embedder.

    Raises:
        UserError: it cannot be opened.
    """
    if config.path is None:
        raise UserError(f"embedder={config.name} does not say which model embeds: add embedder.path=PATH.")
    path = Path(config.path).expanduser()
    identity, embed = _open_gguf(path, config) if config.name == "gguf" else _open_folder(path)
    return TextEmbedder(path.name.removesuffix(".gguf"), identity, embed, config.agreement)


def _open_gguf(path: Path, config: EmbedderConfig) -> tuple[str, EmbedTexts]:
    from quantexp import models  # only now: it loads llama.cpp
    from quantexp.engines.llama_cpp.embedding import embed_texts

    file = models.find_source(ModelConfig(path.name, "path", path=str(path)), QuantConfig("as-is"))
    identity = f"sha256 {file.sha256[:16]}, pooling {config.pooling.value}, context {config.context}"
    return identity, lambda texts: embed_texts(file, texts, config.pooling, config.context)


def _open_folder(path: Path) -> tuple[str, EmbedTexts]:
    if not path.is_dir():
        raise UserError(f"embedder.path={one_line(str(path))} is no folder of a sentence-transformers model.")
    try:
        import sentence_transformers
    except ModuleNotFoundError as error:
        raise UserError(
            f"embedder=sentence-transformers needs a package that is not installed ({error.name}): "
            'pip install "quantexp[embeddings]".'
        ) from error
    try:
        model = sentence_transformers.SentenceTransformer(str(path), device="cpu", local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"embedder.path={one_line(str(path))} holds no model that sentence-transformers can load: "
            f"{one_line(str(error), 200)}."
        ) from error

    def embed(texts: Sequence[str]) -> "NDArray[np.float64]":
        # One at a time: in a batch, a text's vector depends on the length of its neighbours.
        found: NDArray[np.float64] = model.encode(
            list(texts), batch_size=1, normalize_embeddings=True, show_progress_bar=False
        ).astype("float64")
        return found

    library = f"sentence-transformers {sentence_transformers.__version__}"
    return f"sha256 {_hash_folder(path)[:16]}, {library}", embed


def _hash_folder(path: Path) -> str:
    """sha256 over the names and the contents of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + bytes.fromhex(hash_file(file)))
    return digest.hexdigest()
