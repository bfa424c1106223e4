"""The numbers of ComfyUI's settings panel are those of the server."""

import re
from pathlib import Path

from safelight.preview.decode.memory_budget import DEVICE_BYTES, MAX_BUDGET_MB, MB
from safelight.preview.sinks.live_runs import DEFAULT_BUDGET_BYTES

SCRIPT = Path(__file__).parents[3] / "web/comfy.js"


def test_the_panel_has_the_defaults_and_the_limit_of_the_server():
    found = re.search(
        r"const \[DEFAULT_BUDGET_MB, DEFAULT_DEVICE_MB, MAX_MB\] = \[(\d+), (\d+), 1 << (\d+)\];", SCRIPT.read_text()
    )
    budget, device, power = map(int, found.groups())
    assert (budget * MB, device * MB, 1 << power) == (DEFAULT_BUDGET_BYTES, DEVICE_BYTES, MAX_BUDGET_MB)
