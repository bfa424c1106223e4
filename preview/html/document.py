"""The HTML page around the viewer, with a content security policy."""

import base64
import hashlib
import json
from functools import cache
from typing import Any, NamedTuple

from .texts import packed_texts

PAGE_STYLE = """
:root {
  color-scheme: dark light;
  --safelight-ground: #151617; --safelight-text: #dcddde; --safelight-quiet: #94979c; --safelight-radius: 0px;
  --safelight-ring: transparent; /* the viewer always has the focus: nothing else on the page can */
}
@media (prefers-color-scheme: light) {
  :root {
    --safelight-ground: #eeeeec; --safelight-text: #1d1e20; --safelight-quiet: #5d6066; --safelight-lamp: #c8500a;
  }
}
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body {
  display: flex; flex-direction: column; overflow: hidden; background: var(--safelight-ground);
  color: var(--safelight-text); font: 13px/20px system-ui, sans-serif; font-variant-numeric: tabular-nums;
}
header { display: flex; align-items: baseline; gap: 14px; padding: 8px 14px; min-width: 0; flex: none; }
h1 { font-size: 13px; font-weight: 600; margin: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
header p { margin: 0; flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
header p, nav a { color: var(--safelight-quiet); }
nav { display: flex; gap: 14px; white-space: nowrap; }
nav a[aria-current] { color: var(--safelight-text); text-decoration: none; }
nav a:hover, nav a:focus-visible { color: var(--safelight-text); }
a:focus-visible { outline: 2px solid var(--safelight-lamp, #ff8a3d); outline-offset: 2px; border-radius: 2px; }
main { flex: 1; min-height: 0; }
footer { flex: none; max-height: 30vh; overflow: auto; padding: 8px 14px; color: var(--safelight-quiet); }
footer p { margin: 0; overflow-wrap: anywhere; }
footer:empty { display: none; }
@media (max-width: 640px) { header p { display: none; } h1 { flex: 1; } }
@media (max-width: 420px) { header { flex-wrap: wrap; row-gap: 0; } h1 { flex-basis: 100%; } }
"""

# Whatever a manifest or a prompt contains, a browser runs only the one script with this hash.
CONTENT_POLICY = {
    "default-src": "'none'",
    "script-src": "'sha256-{script}'",
    "style-src": "'unsafe-inline'",  # for the viewer's style in its shadow root
    "img-src": "'self' file: data: blob:",
    "base-uri": "'none'",
    "form-action": "'none'",
}

PAGE_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>Safelight</title>
<style>{style}</style>
</head>
<body>
<noscript>This page needs JavaScript to show the run. The pictures are files in the same folder.</noscript>
<script type="application/json" id="safelight-texts">{texts}</script>
<script type="application/json" id="safelight">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


class Document(NamedTuple):
    """A page, and its Content-Security-Policy."""

    html: str
    policy: str


def document(data: Any, script: str, **policy: str) -> Document:
    """A page with the viewer.

    Args:
        data: value for the script, ready for JSON: a run's manifest, or the name of the served folder.
        script: result of `bundle`.
        policy: directives to replace or add, `_` for `-`.

    Raises:
        ValueError: `data` has no JSON form.
    """
    return document_of(script_safe_json(data), script, **policy)


def document_of(data: str, script: str, **policy: str) -> Document:
    """The same for data that `script_safe_json` has encoded."""
    before, after, content_policy = _around_data(script, **policy)
    return Document(before + data + after, content_policy)


@cache
def _around_data(script: str, **policy: str) -> tuple[str, str, str]:
    """The parts of a page before and after its data, and its policy. They are the same for all runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    directives = CONTENT_POLICY | {name.replace("_", "-"): sources for name, sources in policy.items()}
    content_policy = "; ".join(f"{name} {sources}" for name, sources in directives.items()).format(script=digest)
    before, after = PAGE_TEMPLATE.split("{data}")
    before = before.format(policy=content_policy, style=PAGE_STYLE, texts=packed_texts())
    return before, after.format(script=script), content_policy


def script_safe_json(data: Any) -> str:
    """JSON in ASCII, without characters that could end the script element around it.

    Source: https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements
    """
    text = json.dumps(data, allow_nan=False)
    for character in "<>&":  # JSON has them only inside strings
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
