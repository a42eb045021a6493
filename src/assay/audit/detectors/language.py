"""Detect documents in a language other than the declared language of their source."""

# ruff: noqa: RUF001  # Cyrillic letters resemble Latin ones

from __future__ import annotations

from collections import Counter

from assay.audit.detectors.document import Hit, Text

READ = 2000
"""Number of characters that are scanned, from the beginning of a document."""
FEWEST_LETTERS = 200
FEWEST_WORDS = 60
MIN_FRACTION = 0.12
"""Minimum fraction of words that are stop words of the other language. Prose has 20 to 50%, and lists of names few."""
MIN_RATIO = 3
"""Minimum ratio of the other language's stop words to those of the declared language."""
LAST_LATIN = "\u036f"

STOP = {
    "en": "the of and to in is that for it with as was on are be this by from at or",
    "de": "der die und das ist nicht ein eine zu den von mit sich auf für dem im des auch",
    "fr": "le la les et des est que une dans pour pas qui sur avec au du par ce il",
    "es": "el la los que y en un una del las por con para es se no como su al",
    "it": "il di che la e un una per non sono con del le della si da in è al",
    "pt": "o de que e do da em um para com não uma os no se na por mais as",
    "nl": "de het een van en in is dat op te zijn met voor niet aan er om ook als",
    "pl": "i w na z do się nie że jest o to jak po co za od ale przez jego",
    "ru": "и в не на что с по как это он к но из у за от для же бы",
}
"""Stop words by language, which are frequent in any text of the language."""

_LANGUAGES = tuple(STOP)
_OF = {
    word: tuple(place for place, name in enumerate(_LANGUAGES) if word in STOP[name].split())
    for word in sorted({word for words in STOP.values() for word in words.split()})
}
"""Languages of each stop word, as indices of `_LANGUAGES`."""


def wrong(text: Text) -> Hit | None:
    """Detect text with mostly stop words of another language or letters of another script."""
    own = text.source.language.lower()[:2]
    if own not in STOP or text.is_code:
        return None
    part = text.text[:READ]
    if own != "ru" and _is_of_another_script(part):
        return Hit(spans=(), note="another script")
    words = part.lower().split()
    if len(words) < FEWEST_WORDS:
        return None
    stop_words = Counter(filter(_OF.__contains__, words))
    counts = [0] * len(_LANGUAGES)
    for word, count in stop_words.items():
        for place in _OF[word]:
            counts[place] += count
    most = max(counts)
    other, own_count = _LANGUAGES[counts.index(most)], counts[_LANGUAGES.index(own)]
    if other != own and most >= MIN_FRACTION * len(words) and most > MIN_RATIO * own_count:
        return Hit(spans=(), note=f"looks like {other}")
    return None


def _is_of_another_script(part: str) -> bool:
    """Return whether most letters of a text are not Latin."""
    # Letters of other scripts take at least two bytes. Half of FEWEST_LETTERS must be such letters.
    if part.isascii() or len(part.encode()) - len(part) <= FEWEST_LETTERS // 2:
        return False
    letters = sum(map(str.isalpha, part))
    if letters < FEWEST_LETTERS:
        return False
    return sum(character > LAST_LATIN and character.isalpha() for character in part) > 0.5 * letters
