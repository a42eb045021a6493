"""Documents in another language than their source is said to be in."""

# ruff: noqa: RUF001  # Russian looks like Latin

from __future__ import annotations

from collections import Counter

from assay.audit.text import Hit, Text

READ = 2000
"""Characters of a document, from its beginning."""
FEWEST_LETTERS = 200
FEWEST_WORDS = 60
SHARE = 0.12
"""Of the words that are stop words of the other language: running text has 20 to 50%, a list of names few."""
TIMES = 3
"""That the other language's stop words outnumber the source's own."""
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
"""Words that make up a good part of any text in a language."""

_LANGUAGES = tuple(STOP)
_OF = {
    word: tuple(place for place, name in enumerate(_LANGUAGES) if word in STOP[name].split())
    for word in sorted({word for words in STOP.values() for word in words.split()})
}
"""The languages of each stop word, by their place."""


def wrong(text: Text) -> Hit | None:
    """Stop words of another language outnumber the source's own threefold, or letters are of another script."""
    own = text.source.language.lower()[:2]
    if own not in STOP or text.is_code:
        return None
    part = text.text[:READ]
    if own != "ru" and _is_of_another_script(part):
        return Hit(spans=(), note="another script")
    words = part.lower().split()
    if len(words) < FEWEST_WORDS:
        return None
    found = Counter(filter(_OF.__contains__, words))
    counts = [0] * len(_LANGUAGES)
    for word, count in found.items():
        for place in _OF[word]:
            counts[place] += count
    most = max(counts)
    other, mine = _LANGUAGES[counts.index(most)], counts[_LANGUAGES.index(own)]
    if other != own and most >= SHARE * len(words) and most > TIMES * mine:
        return Hit(spans=(), note=f"looks like {other}")
    return None


def _is_of_another_script(part: str) -> bool:
    """Whether most letters are none of the Latin alphabet."""
    # Each letter of another script takes two bytes or more, and half of the fewest letters have to be such.
    if part.isascii() or len(part.encode()) - len(part) <= FEWEST_LETTERS // 2:
        return False
    letters = sum(map(str.isalpha, part))
    if letters < FEWEST_LETTERS:
        return False
    return sum(character > LAST_LATIN and character.isalpha() for character in part) > 0.5 * letters
