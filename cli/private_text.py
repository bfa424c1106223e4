"""Removes what is private from texts that a user publishes: paths, file names, quoted values, prompts."""

import re
from collections.abc import Iterable

HIDDEN = "(…)"
MAX_CHARS = 300
MIN_WORD_CHARS, MIN_OTHER_WORD_CHARS = 4, 2  # in scripts such as Chinese, two characters are a word
MIN_SECRET_CHARS, MIN_LONG_SECRET_CHARS = 2, 5  # a shorter one is only hidden as a whole word

QUOTED = re.compile(r"(?<!\w)(['\"`«“‘])(?=\S).*?[^\s](?:['\"`»”’])(?!\w)|(?<!\w)(['\"`])\S(?:['\"`])(?!\w)")
# A path may contain blanks: everything up to the next colon that ends a part of a message is hidden.
PATH = re.compile(r"\S*[/\\].*[/\\].*?(?=: |$)|\S*[/\\].*?(?=: |$)")
FRACTION = re.compile(r"(?<!\S)(\d+) ?/ ?(\d+)(?![/\\\w])")  # of steps: no path
FILE = re.compile(r"[^\s:]*\w\.[A-Za-z]\w{0,11}\b")
# A key, a hash. Keys of S3 have 16 to 20 letters and digits; names of decoders have hyphens between shorter parts.
LONG_TOKEN = re.compile(r"[\w+=-]{24,}|(?<![^\W_])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z\d]{16,}")
ADDRESS = re.compile(r"\S*@\S+|\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?")
WORD = re.compile(r"[^\W_]+")  # names of files have underscores between the words of a prompt
REPEATED = re.compile(r"\(…\)(?:[\s,;]*\(…\))+")
FRACTION_SIGN = "\N{FRACTION SLASH}"


class PrivateText:
    """Removes private parts from texts.

    Args:
        secrets: texts that must not appear, such as the user's name. Longer ones are also found in other words.
        prompts: prompts. No longer word of a prompt appears.
    """

    def __init__(self, secrets: Iterable[str] = (), prompts: Iterable[str] = ()) -> None:
        longest_first = sorted({secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True)
        found = "|".join(map(_pattern_of, longest_first))
        self._secrets = re.compile(found, re.IGNORECASE) if found else None
        self._prompts = {text.strip().casefold() for text in prompts if text.strip()}
        self._words = {word for text in self._prompts for word in WORD.findall(text) if _is_telling(word)}

    def hide(self, text: str) -> str:
        """Returns `text` in one line of at most `MAX_CHARS` characters, with `(…)` in place of what is private."""
        text = "".join(char if char.isprintable() else " " for char in text)
        if text.strip().casefold() in self._prompts:
            return HIDDEN
        text = FRACTION.sub(rf"\1{FRACTION_SIGN}\2", text)
        for pattern in (QUOTED, PATH, ADDRESS, FILE, LONG_TOKEN, *([self._secrets] if self._secrets else [])):
            text = pattern.sub(HIDDEN, text)
        text = WORD.sub(lambda word: HIDDEN if self._is_of_a_prompt(word[0].casefold()) else word[0], text)
        # A fence of GitHub's Markdown would end the block of code that a report is pasted into.
        text = REPEATED.sub(HIDDEN, text).replace(FRACTION_SIGN, "/").replace("`", "'")
        return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"

    def _is_of_a_prompt(self, word: str) -> bool:
        if word.isascii():
            return word in self._words
        # Some scripts have no blanks between words, so a part of the prompt, or more than it, may stand here.
        in_prompt = _is_telling(word) and any(word in prompt for prompt in self._prompts)
        return in_prompt or any(part in word for part in self._words if not part.isascii())


def _pattern_of(secret: str) -> str:
    escaped = re.escape(secret)
    return escaped if len(secret) >= MIN_LONG_SECRET_CHARS else rf"(?<![^\W_]){escaped}(?![^\W_])"


def _is_telling(word: str) -> bool:
    return len(word) >= (MIN_WORD_CHARS if word.isascii() else MIN_OTHER_WORD_CHARS)
