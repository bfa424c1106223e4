"""Measures how a page of ComfyUI moves its canvas with viewers on it, in a real browser."""

import json
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_suffix(".mjs")
ROUNDS, SPELL_MS = 5, 3000
LIMIT_S = 1800
BARE, VIEWERS = "bare", "viewers"  # graphs of the script


def frames(url: str, chromium: str) -> list[dict[str, Any]]:
    """Measures ten viewers, one of which gets steps, and the same samplers alone, by turns: medians of the spells.

    Args:
        url: address of ComfyUI, with the lab among its custom nodes.
        chromium: path of the browser. The variable SAFELIGHT_PLAYWRIGHT names a folder with playwright-core.
    """
    rows = []
    for renderer in ("LiteGraph", "Vue"):
        with tempfile.TemporaryDirectory(prefix="safelight-benchmark-") as profile:
            asked = {"url": url, "chromium": chromium, "profile": profile, "vue": renderer == "Vue"}
            options = asked | {"rounds": ROUNDS, "spell_ms": SPELL_MS}
            ran = subprocess.run(  # noqa: S603 - our own script
                ["node", str(SCRIPT)],  # noqa: S607 - the Node on the path
                input=json.dumps(options),
                capture_output=True,
                text=True,
                check=True,
                timeout=LIMIT_S,
            )
        spells = json.loads(ran.stdout)
        bare, viewers = (_medians([spell for spell in spells if spell["graph"] == graph]) for graph in (BARE, VIEWERS))
        ratio = {"of the bare graph": f"{viewers['fps'] / bare['fps']:.0%}"}
        rows += [{"renderer": renderer, "graph": BARE} | bare | {"of the bare graph": ""}]
        rows += [{"renderer": renderer, "graph": "ten viewers"} | viewers | ratio]
    return rows


def _medians(spells: Sequence[dict[str, Any]]) -> dict[str, float]:
    names = [name for name in spells[0] if name != "graph"]
    return {name: statistics.median(spell[name] for spell in spells) for name in names}
