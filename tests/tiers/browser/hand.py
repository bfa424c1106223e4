"""Drives a tab of a real browser on the page of a host, see `hand.mjs`."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    return os.environ.get("SAFELIGHT_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


class Hand:
    """Runs commands in a tab.

    Args:
        profile: empty folder for the browser's profile.
    """

    def __init__(self, profile: Path) -> None:
        drive = ["node", str(HERE / "hand.mjs"), chromium() or "", str(profile)]
        self._driver = subprocess.Popen(drive, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, do: str, at: str | None = None, **facts: Any) -> Any:
        self._driver.stdin.write(json.dumps({"do": do, "at": at, **facts}) + "\n")
        self._driver.stdin.flush()
        answer = json.loads(self._driver.stdout.readline())
        assert "error" not in answer, f"{do} {at}: {answer['error']}"
        return answer["result"]

    def close(self) -> None:
        self._driver.stdin.close()
        self._driver.wait(30)
        self._driver.stdout.close()
