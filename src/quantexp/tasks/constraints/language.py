"""Language of a short text: by its script, and in Latin script by the commonest words of a language.

Made to tell whether a model has answered in the language that it was asked for, not to identify any text: every
language here has about thirty function words, and the one with the most of them in the text is its language.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from quantexp.tasks.constraints.measures import list_words

_WORDS = {
    "English": "the of and to in is it you that was for on are with as at be this have from or by not but what we "
    "when your can an which their if will my",
    "German": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an er sie wir "
    "ich aus bei nach wie einen einer werden sind oder hat",
    "French": "de la le et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont je avec son "
    "nous vous mais ou elle cette très c'est d'un",
    "Spanish": "de la que el en y a los se del las un por con no una su para es al lo como más pero sus le ya o este "
    "muy está son hay mi todo",
    "Italian": "di e il la che in un per è una non sono da del con si le dei alla nel i della più come anche gli ma lo "
    "al questo molto sul o ho",
    "Portuguese": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas ao ele das tem à "
    "seu sua ou muito está são você",
    "Dutch": "de het een en van ik te dat die in is niet zijn op aan met voor er maar om dan zou of wat mijn men dit "
    "zo door over ook je naar heeft wij",
}
"""Function words by language."""

_SCRIPTS = {
    "Russian": ((0x0400, 0x04FF),),
    "Greek": ((0x0370, 0x03FF), (0x1F00, 0x1FFF)),
    "Arabic": ((0x0600, 0x06FF), (0x0750, 0x077F)),
    "Hindi": ((0x0900, 0x097F),),
    "Korean": ((0xAC00, 0xD7AF), (0x1100, 0x11FF)),
    "Chinese": ((0x4E00, 0x9FFF),),
    "Japanese": ((0x3040, 0x30FF), (0x4E00, 0x9FFF)),
}
"""Ranges of characters by language."""

_KANA = (0x3040, 0x30FF)

LANGUAGES = (*_WORDS, *_SCRIPTS)
"""The languages that are told apart."""

_LANGUAGES_OF: Mapping[str, frozenset[str]] = MappingProxyType(
    {name: frozenset(words.split()) for name, words in _WORDS.items()}
)


def is_written_in(text: str, language: str) -> bool:
    """Return whether a text is in a language.

    In Latin script no other language here may have as many of its commonest words in the text, and there has to be one
    at least. In another script, nine letters in ten are of it; Japanese needs kana, which Chinese must not have.
    """
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return False
    if language in _SCRIPTS:
        has_kana = any(_is_in(character, _KANA) for character in letters)
        if (language == "Japanese") is not has_kana and language in ("Japanese", "Chinese"):
            return False
        inside = sum(any(_is_in(character, each) for each in _SCRIPTS[language]) for character in letters)
        return inside >= 0.9 * len(letters)
    counts = Counter(word.casefold().replace("’", "'") for word in list_words(text))
    found = {name: sum(counts[word] for word in words) for name, words in _LANGUAGES_OF.items()}
    own = found.pop(language)
    return own > max(found.values())


def _is_in(character: str, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= ord(character) <= bounds[1]
