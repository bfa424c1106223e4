"""Joins the viewer's modules into one script, for pages that cannot load other files.

From `file://` a browser loads neither modules nor data. So each module becomes a function that returns its exports. It
is called once, after the functions of the modules that it imports:

    const $zoom = (() => { ... return { fit, placed }; })();
    const $stage = (() => { const { fit } = $zoom; ... return { Stage }; })();

Only the forms of `import` and `export` that the viewer uses are supported; others raise an error.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ...errors import PageError

WEB = Path(__file__).resolve().parents[2] / "web"

_IMPORT = re.compile(r'^import \{([^{}]*)\} from "\./([\w-]+)\.mjs";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function\*?|class|const) ([\w$]+))", re.MULTILINE)
_NAMES = re.compile(r"([\w$]+)(?: as ([\w$]+))?\Z")
_UNSUPPORTED = re.compile(r"^\s*(?:import|export)\b.*|(?<![\w$.])import\s*[.(].*", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/|^\s*//.*?$", re.MULTILINE | re.DOTALL)
_MARKUP = re.compile(r"<!--|<(?=/?script)", re.IGNORECASE)


@cache  # 11 ms, which each run with files would need while its sampler works
def bundle(entry: str, web: Path = WEB) -> str:
    """The module `<entry>.mjs` with all modules that it imports, as a script that ends with its `start(document)`.

    Args:
        entry: name of the module.
        web: folder of the modules.

    Raises:
        PageError: a module is missing, imports itself through others, or uses a form that is not supported.
    """
    sources = {name: _read(name, web) for name in _in_order(entry, web)}
    functions = [_function(name, source) for name, source in sources.items()]
    return "\n".join([*functions, f"{_constant(entry)}.start(document);", ""])


def _in_order(entry: str, web: Path) -> list[str]:
    """The names of all modules, each after the ones that it imports."""
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise PageError(f"web/{name}.mjs imports itself through {' -> '.join([*path, name])}")
        if name not in order:
            for imported in _imported(_read(name, web)):
                visit(imported, (*path, name))
            order.append(name)

    visit(entry, ())
    return order


def _imported(source: str) -> Iterator[str]:
    return (match[2] for match in _IMPORT.finditer(source))


def _read(name: str, web: Path) -> str:
    try:
        return (web / f"{name}.mjs").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PageError(
            f"web/{name}.mjs cannot be read ({error}); the installation of Safelight is incomplete; install it again"
        ) from None


def _function(name: str, source: str) -> str:
    exported = [match[1] for match in _EXPORT.finditer(source)]
    body = _EXPORT.sub("", _IMPORT.sub(_constants, source))
    if unsupported := _UNSUPPORTED.search(_COMMENT.sub("", body)):
        raise PageError(
            f'web/{name}.mjs: expected `import {{ a, b as c }} from "./module.mjs";` and `export` before a const, '
            f"function or class at the start of a line, found {unsupported[0].strip()!r}"
        )
    if markup := _MARKUP.search(body):
        raise PageError(
            f"web/{name}.mjs: {markup[0]!r} would end the script element of the page; split it into two strings"
        )
    return f"const {_constant(name)} = (() => {{\n{body.rstrip()}\nreturn {{ {', '.join(exported)} }};\n}})();"


def _constants(imported: re.Match[str]) -> str:
    names = [name.strip() for name in imported[1].split(",") if name.strip()]
    parts = [_NAMES.match(name) for name in names]
    if not all(parts):
        return imported[0]  # stays, and is found as unsupported
    bindings = ", ".join(f"{part[1]}: {part[2]}" if part[2] else part[1] for part in parts if part)
    return f"const {{ {bindings} }} = {_constant(imported[2])};"


def _constant(module: str) -> str:
    """The name of a module in the script: `$stepStrip` for `step-strip`."""
    first, *others = module.split("-")
    return f"${first}{''.join(other.capitalize() for other in others)}"
