"""BibTeX of quantexp and of results."""

from quantexp.comparison.publication import Publication

_MARKS = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}
"""What TeX reads as something else."""


def write_citation(publication: Publication, author: str | None, url: str | None) -> str:
    """Write an entry for quantexp and one for the results; what nobody has said is left out.

    Args:
        publication: the results.
        author: of the results, in BibTeX's form: names joined by `and`.
        url: where they are published.
    """
    versions = ", ".join(dict.fromkeys(job.software.quantexp for job in publication.jobs))
    year = max(job.date for job in publication.jobs)[:4]
    software = {
        "title": "quantexp: what quantization costs a language model",
        "author": "{The quantexp authors}",
        "version": _escape(versions),
        "year": year,
    }
    results = {
        "title": f"{{{_escape(f'Quantization quality: {publication.title}')}}}",
        **({"author": _escape(author)} if author else {}),
        "version": publication.sha256[:12],
        "year": year,
        "note": _escape(f"Made with quantexp {versions}; sha256 of the results {publication.sha256}"),
        **({"url": url} if url else {}),
    }
    return (
        _entry("software", "quantexp", software)
        + "\n"
        + _entry("misc", f"quantexp-results-{publication.sha256[:8]}", results)
    )


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"]) + "\n"


def _escape(text: str) -> str:
    return "".join(_MARKS.get(letter, letter) for letter in " ".join(text.split()))
