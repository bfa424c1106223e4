"""Reads the translations of the viewer's texts, for pages that contain the viewer."""

import base64
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

LOCALES = Path(__file__).resolve().parents[2] / "locales"
ENGLISH = "en"
TEXTS, NOTES = "viewer.json", "notes.json"  # in the folder of each language; ComfyUI reads the other files there


def languages() -> list[str]:
    """The languages that the viewer has texts in, besides English: `de`, `pt-BR`."""
    return sorted(path.parent.name for path in LOCALES.glob(f"*/{TEXTS}") if path.parent.name != ENGLISH)


@cache
def texts_of(language: str) -> dict[str, Any]:
    """The translations of a language by their English texts: the viewer's own `texts`, and the `patterns` of notes.

    Args:
        language: one of `languages()`.

    Returns:
        JSON for `setLanguage` in `web/language.mjs`. A file that cannot be read counts as empty.
    """
    return {"language": language, "texts": _table(language, TEXTS), "patterns": _table(language, NOTES)}


@cache
def packed_texts() -> str:
    """The texts of all languages as JSON for a page, compressed: a page has no server that could send one of them.

    `web/page-language.mjs` unpacks the browser's language.
    """
    english = texts_of(ENGLISH)
    keys = {part: list(english[part]) for part in ("texts", "patterns")}
    packed = {
        language: _pack({part: [texts_of(language)[part].get(key) for key in keys[part]] for part in keys})
        for language in languages()
    }
    return json.dumps({"keys": _pack(keys), "languages": packed})


def _table(language: str, name: str) -> dict[str, Any]:
    """A file without its groups, which are for translators."""
    try:
        groups = json.loads((LOCALES / language / name).read_text("utf-8"))
        return {key: text for group in groups.values() for key, text in group.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _pack(value: Any) -> str:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
