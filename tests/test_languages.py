"""Texts in all languages: `locales/` and the help pages in `web/docs/`. A folder in `locales/` is a language."""

import ast
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCALES, WEB, HELP = ROOT / "locales", ROOT / "web", ROOT / "web/docs"
LANGUAGES = sorted(path.name for path in LOCALES.iterdir() if path.is_dir() and path.name != "en")
FILES = sorted(path.name for path in (LOCALES / "en").glob("*.json"))
NODES = sorted(path.stem for path in HELP.glob("*.md"))

# Forms of `Intl.PluralRules` that a language needs.
ONE_AND_OTHER = {"one", "other"}
PLURALS = {
    **{language: {"other"} for language in ("zh", "zh-TW", "ja", "ko")},
    "ru": {"one", "few", "many", "other"},
    "ar": {"zero", "one", "two", "few", "many", "other"},
}
MILLIONS = "many"  # in Spanish, French, Italian and Portuguese; the viewer takes `other` if it is missing
NAMED_NUMBERS = {"zero", "one", "two"}  # forms that may say the number as a word

# The largest width of a text by its place. CJK letters count twice, a placeholder twice.
VIEWER_WIDTHS = {
    "buttons": 20,
    "captions": 32,
    "headings": 16,
    "settings": 34,
    "menu": 52,
    "tooltips": 110,
    "messages": 330,
}
NOTE_WIDTH, NAME_WIDTH, CATEGORY_WIDTH, SETTING_WIDTH = 400, 30, 32, 90
GROWTH, SHORT_WIDTH = 2, 60  # of tooltips: twice the English one, or 60

PLACEHOLDER = re.compile(r"\{\w+\}")
CODE_NAME = re.compile(r"--[a-z-]+|\b\w+_\w+\b|\bmodels/\w+(?:/\w+)?|`[^`]+`")  # what users type or look for


def read(language: str, name: str) -> Any:
    return json.loads((LOCALES / language / name).read_text("utf-8"))


def texts(table: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each text of a file with the keys that lead to it, in order."""
    for key, value in table.items():
        if isinstance(value, str):
            yield (*path, key), value
        else:
            yield from texts(value, (*path, key))


def is_plural(value: Any) -> bool:
    return isinstance(value, dict) and "other" in value


def shape(table: Any) -> Any:
    """The keys of a file in order, without the forms of plurals."""
    if isinstance(table, str) or is_plural(table):
        return None
    return [(key, shape(value)) for key, value in table.items()]


def entries(name: str, language: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The keys, the English text and the translation; each form of a plural with the English plural."""
    english, translated = dict(texts(read("en", name))), dict(texts(read(language, name)))
    for path, text in translated.items():
        yield path, english.get(path) or english[(*path[:-1], "other")], text


def width(text: str) -> int:
    letters = PLACEHOLDER.sub("00", text)
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in letters)


def limit(name: str, path: tuple[str, ...], english: str) -> int:
    if name == "viewer.json":
        return VIEWER_WIDTHS[path[0]]
    if name == "notes.json":
        return NOTE_WIDTH
    if name == "main.json":
        return CATEGORY_WIDTH
    if path[-1] in ("name", "display_name"):
        return SETTING_WIDTH if name == "settings.json" else NAME_WIDTH
    return max(SHORT_WIDTH, GROWTH * width(english))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_language_has_the_texts_of_the_english_file_in_its_order(language, name):
    assert (LOCALES / language / name).is_file(), "missing"
    english, translated = shape(read("en", name)), shape(read(language, name))
    known, found = ({path for path, _ in paths(part)} for part in (english, translated))
    assert (sorted(known - found), sorted(found - known)) == ([], []), "missing, superfluous"
    assert translated == english, "the order differs from the English file"


def paths(keys: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], None]]:
    for key, inner in keys:
        if inner is None:
            yield (*path, key), None
        else:
            yield from paths(inner, (*path, key))


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_written_as_all_others(language, name):
    source = (LOCALES / language / name).read_text("utf-8")
    assert source == json.dumps(json.loads(source), ensure_ascii=False, indent=2) + "\n"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_translation_has_the_same_placeholders(language, name):
    wrong = [
        (english, text)
        for path, english, text in entries(name, language)
        if not same_placeholders(path[-1], english, text)
    ]
    assert wrong == []


def same_placeholders(form: str, english: str, text: str) -> bool:
    wanted, found = (Counter(PLACEHOLDER.findall(words)) for words in (english, text))
    return found == wanted or (form in NAMED_NUMBERS and found == wanted - Counter(["{count}"]))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_translation_names_what_users_type_as_the_english_text_does(language, name):
    wrong = [
        (english, missing)
        for path, english, text in entries(name, language)
        if path[-1] != "name" or name != "nodeDefs.json"  # the label of an input
        if (missing := [found for found in CODE_NAME.findall(english) if found not in text])
    ]
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_no_translation_is_empty_or_has_blanks_around_it(language, name):
    assert [path for path, _, text in entries(name, language) if not text.strip() or text != text.strip()] == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_translation_fits_its_place(language, name):
    too_long = [
        (text, width(text), most)
        for path, english, text in entries(name, language)
        if width(text) > (most := limit(name, path, english))
    ]
    assert too_long == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_with_a_number_has_the_forms_of_the_language(language):
    needed = PLURALS.get(language, ONE_AND_OTHER)
    english, translated = read("en", "viewer.json"), read(language, "viewer.json")
    wrong = {}
    for group, keys in english.items():
        for key, value in keys.items():
            found = translated[group][key]
            forms = set(found) if isinstance(found, dict) else {"other"}
            wanted = needed if is_plural(value) else {"other"}
            if forms - {MILLIONS} != wanted - {MILLIONS}:
                wrong[key] = sorted(forms)
    assert wrong == {}


HEADING = re.compile(r"^(#+) ", re.MULTILINE)
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)]+)\)")
CODE = re.compile(r"`([^`]+)`")
ITEM = re.compile(r"^ *(?:\*|\d+\.) ", re.MULTILINE)
ROW = re.compile(r"^\|", re.MULTILINE)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", NODES)
def test_a_help_page_has_the_parts_of_the_english_one(language, node):
    page = HELP / node / f"{language}.md"
    assert page.is_file(), "missing"
    english, translated = (path.read_text("utf-8") for path in (HELP / f"{node}.md", page))
    for what, part in {"heading": HEADING, "picture": PICTURE, "link": LINK, "item": ITEM, "row": ROW}.items():
        assert part.findall(translated) == part.findall(english), what
    wanted, found = Counter(CODE.findall(english)), Counter(CODE.findall(translated))
    assert (sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))) == ([], []), (
        "code: missing, superfluous"
    )


@pytest.mark.parametrize("name", ["viewer.json", "notes.json"])
def test_the_english_texts_are_their_own_keys(name):
    groups = read("en", name)
    keys = [key for group in groups.values() for key in group]
    assert len(keys) == len(set(keys)), "a text is in one group only"
    assert [
        key for group in groups.values() for key, value in group.items() if value not in (key, plural_of(key, value))
    ] == []
    assert [list(group) for group in groups.values()] == [sorted(group, key=str.lower) for group in groups.values()]


def plural_of(key: str, value: Any) -> Any:
    return {"one": value["one"], "other": key} if is_plural(value) else None


# The texts in the viewer's modules

STRING = r'"((?:[^"\\]|\\.)*)"'
TRANSLATED = re.compile(rf"\b(?:t|later)\(\s*{STRING}")
PLURAL = re.compile(rf"\bplural\([^;]*?{STRING},\s*{STRING}")
COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", re.DOTALL)
SETTINGS = re.compile(
    r"\n    settings: \[.*?\n    \],", re.DOTALL
)  # of comfy.js: ComfyUI has their texts from settings.json


def scripts() -> dict[str, str]:
    return {
        path.name: SETTINGS.sub("", COMMENT.sub("", path.read_text("utf-8")))
        for path in [*sorted(WEB.glob("*.mjs")), WEB / "comfy.js"]
    }


def texts_in(source: str) -> dict[str, Any]:
    """The texts that a module translates, as `viewer.json` has them."""
    single = {json.loads(f'"{text}"'): json.loads(f'"{text}"') for text in TRANSLATED.findall(source)}
    return single | {many: {"one": one, "other": many} for one, many in PLURAL.findall(source)}


def test_the_table_has_the_texts_of_the_viewer_and_no_others():
    used = {key: value for source in scripts().values() for key, value in texts_in(source).items()}
    used |= texts_in(SETTINGS.search((WEB / "comfy.js").read_text("utf-8"))[0])
    listed = {key: value for group in read("en", "viewer.json").values() for key, value in group.items()}
    assert (sorted(set(used) - set(listed)), sorted(set(listed) - set(used))) == ([], []), "missing, superfluous"
    assert used == listed


LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
VALUE = re.compile(r"\$\{[^}]*\}")
LETTERS, WORDS = re.compile(r"[A-Za-z]{2}"), re.compile(r"[A-Za-z]{2,} [a-z]{2,}")
SHOWN_PROPERTY = re.compile(
    r"\b(?:textContent|title|ariaLabel|ariaValueText|placeholder|label|tooltip|summary|detail|why|text|alt)\s*[:=]\s*$"
)
NOT_SHOWN = re.compile(r"class|import|matches|querySelector|style|container|rootMargin|getContext", re.IGNORECASE)
NOT_TEXTS = {
    "Safelight",
    "lock pin",
    "compare ${view.compare}",
    "lock ${view.lock}",
    "all files",
    "speed fading",
    "safelight view",
    "run.json",
    "pi pi-images",
}
STYLES = {"style.mjs", "base-style.mjs", "library-style.mjs"}


def bare_texts(source: str) -> list[str]:
    """Texts for the user that do not go through `t`, `later` or `plural`."""
    found = []
    for line in PLURAL.sub("", TRANSLATED.sub("", source)).splitlines():
        for match in LITERAL.finditer(line):
            literal = match[1] or match[2] or ""
            words = VALUE.sub("", literal).replace("px", "")
            is_shown = SHOWN_PROPERTY.search(line[: match.start()]) and LETTERS.search(words)
            is_sentence = WORDS.search(words) and not NOT_SHOWN.search(line)
            if literal not in NOT_TEXTS and (is_shown or is_sentence):
                found.append(literal)
    return found


def test_every_text_that_the_viewer_shows_is_translated():
    found = {name: bare_texts(source) for name, source in scripts().items() if name not in STYLES}
    assert {name: texts for name, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    "line",
    [
        'this.note.textContent = "Nothing";',
        'create(document, "div", { ariaLabel: `Step ${index}` })',
        'throw new Error("no picture is there");',
        "return `${count} runs of this folder`;",
    ],
)
def test_a_text_that_is_not_translated_is_found(line):
    assert len(bare_texts(line)) == 1


@pytest.mark.parametrize(
    "line", ['element.title = t("Nothing at all");', 'plural(count, "{count} old run", "{count} old runs")']
)
def test_a_text_that_is_translated_is_not_reported(line):
    assert bare_texts(line) == []


# The texts that Python writes for the viewer

NOTE_CALLS = {"note", "notify", "_note", "_notify", "_notify_once", "_silence_with"}
ANSWER_FILES = (
    *("hosts/comfyui/routes.py", "hosts/comfyui/library_routes.py", "hosts/comfyui/library.py"),
    *("hosts/comfyui/choice_routes.py", "hosts/saved_library.py"),
    *("preview/run_library.py", "preview/run_trash.py", "preview/sinks/live_runs.py"),
)
ANSWER_CALLS = {"refusal", "_RefusedError", "GoneError", "LibraryError"}
ROOMS = ("preview", "hosts", "nodes", "decoders", "screens")
# Texts that no user of the viewer sees: the viewer asks nothing of the kind, or the command line shows them.
NOT_SENT = re.compile(
    r"expected |name the |frame: |step: expected |there is no such path|(step )?\{\} \{\}$|\{\}\. Name them "
)


def pattern_of(node: ast.expr) -> str | None:
    """A text with `{}` for each value; None if it is another expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def sent_texts(path: Path, calls: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in calls:
                yield from (text for argument in node.args if (text := pattern_of(argument)))


VALUE_OF_NOTE = "X"  # in place of a value
NESTED = ("error", "reason")  # placeholders for what may be a text of the table itself


def is_listed(text: str) -> bool:
    """Whether the table has a text, or its parts. `web/sent-texts.mjs` finds translations in the same way."""
    for pattern, names in PATTERNS:
        if found := pattern.fullmatch(text):
            inner = [found[at + 1] for at, name in enumerate(names) if name in NESTED]
            return all(part == VALUE_OF_NOTE or is_listed(part) for part in inner)
    begin = text.removesuffix(VALUE_OF_NOTE)  # some notes end with a constant, or with a part that may be empty
    return begin != text and any(
        pattern.pattern.replace("\\", "").replace("(.+?)", VALUE_OF_NOTE).startswith(begin) for pattern, _ in PATTERNS
    )


def expressions() -> list[tuple[re.Pattern[str], list[str]]]:
    keys = [key for group in read("en", "notes.json").values() for key in group]
    keys.sort(key=lambda key: len(PLACEHOLDER.sub("", key)), reverse=True)
    return [
        (
            re.compile("(.+?)".join(map(re.escape, PLACEHOLDER.split(key)))),
            [name[1:-1] for name in PLACEHOLDER.findall(key)],
        )
        for key in keys
    ]


PATTERNS = expressions()


def test_every_note_of_a_run_is_in_the_table():
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    written = {text for path in sources for text in sent_texts(path, NOTE_CALLS) if " " in text}
    assert (
        sorted(
            text for text in written if not NOT_SENT.match(text) and not is_listed(text.replace("{}", VALUE_OF_NOTE))
        )
        == []
    )


def test_every_answer_of_the_server_that_the_viewer_shows_is_in_the_table():
    written = {text for name in ANSWER_FILES for text in sent_texts(ROOT / name, ANSWER_CALLS) if " " in text}
    assert (
        sorted(
            text for text in written if not NOT_SENT.match(text) and not is_listed(text.replace("{}", VALUE_OF_NOTE))
        )
        == []
    )
