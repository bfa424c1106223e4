"""The numbers of ComfyUI's settings panel are those of the server."""

import re
from pathlib import Path

from safelight.preview.decode.memory_budget import DEVICE_BYTES, MAX_BUDGET_MB, MB
from safelight.preview.options import rows
from safelight.preview.sinks.live_runs import DEFAULT_BUDGET_BYTES

WEB = Path(__file__).parents[3] / "web"
SCRIPT = WEB / "comfy.js"


def test_the_panel_has_the_defaults_and_the_limit_of_the_server():
    found = re.search(
        r"const \[DEFAULT_BUDGET_MB, DEFAULT_DEVICE_MB, MAX_MB\] = \[(\d+), (\d+), 1 << (\d+)\];", SCRIPT.read_text()
    )
    budget, device, power = map(int, found.groups())
    assert (budget * MB, device * MB, 1 << power) == (DEFAULT_BUDGET_BYTES, DEVICE_BYTES, MAX_BUDGET_MB)


def test_the_line_with_the_settings_has_words_for_each_option():
    words = (WEB / "settings-words.mjs").read_text("utf-8")
    assert [row.name for row in rows() if f"\n  {row.name}: (" not in words] == []
