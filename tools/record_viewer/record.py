"""Records the moving picture of the README: the node Preview Steps in a real ComfyUI, used in a real browser.

Needs the variables of the test tiers: SAFELIGHT_COMFYUI, SAFELIGHT_COMFYUI_PYTHON, SAFELIGHT_PLAYWRIGHT and, if no
Chromium is on the PATH, SAFELIGHT_CHROMIUM. Takes a few minutes.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
MAX_WEBP_BYTES = 3_000_000
RECORDING_LIMIT_S = 600
QUALITY = 90  # at 60, parts of a picture remain from the one before it
# The pointer: an arrow whose tip is at (0, 0), in pixels, and a ring around the tip while the button is down.
ARROW = ((0, 0), (0, 19), (4.5, 15), (7.5, 22), (11, 20.5), (8, 14), (14, 14))
RING_PX = 13
RING_COLOR = (255, 138, 61, 220)
OVERSAMPLING = 4


def comfyui_rig() -> ModuleType:
    """Returns the module of the ComfyUI tests that starts servers."""
    path = str(REPOSITORY / "tests/tiers/comfyui/conftest.py")
    rig = ModuleType("comfyui_rig")
    rig.__file__ = path
    SourceFileLoader(rig.__name__, path).exec_module(rig)
    return rig


def record(folder: Path, chromium: str) -> list[dict[str, Any]]:
    """Starts ComfyUI and uses the node. Returns the frames that `record.mjs` describes, in `folder/frames`."""
    rig = comfyui_rig()
    for name in ("profile", "frames"):
        (folder / name).mkdir()
    paths = folder / "paths.yaml"
    paths.write_text(json.dumps({"recording": {"custom_nodes": str(HERE / "nodes")}}), encoding="utf-8")
    with rig.serving(folder / "comfyui", rig.FOLDER, "--extra-model-paths-config", str(paths)) as server:
        options = {
            "url": f"http://127.0.0.1:{server.port}",
            "chromium": chromium,
            "profile": str(folder / "profile"),
            "frames": str(folder / "frames"),
        }
        recorded = subprocess.run(  # noqa: S603
            ["node", str(HERE / "record.mjs")],  # noqa: S607
            input=json.dumps(options),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=RECORDING_LIMIT_S,
        )
    return json.loads(recorded.stdout)


def pointer(down: bool) -> Image.Image:
    """Draws the mouse pointer, with its tip in the center."""
    side = 2 * max(RING_PX, 24) * OVERSAMPLING
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    center, radius = side / 2, RING_PX * OVERSAMPLING
    if down:
        ring = (center - radius, center - radius, center + radius, center + radius)
        draw.ellipse(ring, outline=RING_COLOR, width=3 * OVERSAMPLING)
    corners = [(center + x * OVERSAMPLING, center + y * OVERSAMPLING) for x, y in ARROW]
    draw.polygon(corners, fill=(20, 20, 22, 255))
    draw.line([*corners, *corners[:2]], fill=(255, 255, 255, 255), width=round(1.5 * OVERSAMPLING), joint="curve")
    return image.resize((side // OVERSAMPLING, side // OVERSAMPLING), Image.Resampling.LANCZOS)


def draw_frames(frames: Sequence[Mapping[str, Any]], folder: Path) -> tuple[list[Image.Image], list[int]]:
    """Returns the screenshots with their pointer, and their durations in ms. Equal neighbors become one picture."""
    pointers = {down: pointer(down) for down in (False, True)}
    images: list[Image.Image] = []
    durations: list[int] = []
    for frame in frames:
        image = Image.open(folder / frame["file"]).convert("RGB")
        arrow = pointers[frame["down"]]
        image.paste(arrow, (round(frame["x"]) - arrow.width // 2, round(frame["y"]) - arrow.height // 2), arrow)
        if images and image.tobytes() == images[-1].tobytes():
            durations[-1] += frame["ms"]
        else:
            images.append(image)
            durations.append(frame["ms"])
    return images, durations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs/viewer.webp", help="the animated WebP to write")
    options = parser.parse_args()

    chromium = os.environ.get("SAFELIGHT_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = [
        name
        for name in ("SAFELIGHT_COMFYUI", "SAFELIGHT_COMFYUI_PYTHON", "SAFELIGHT_PLAYWRIGHT")
        if name not in os.environ
    ]
    if missing or chromium is None:
        parser.error(f"not set: {', '.join(missing) or 'SAFELIGHT_CHROMIUM, and no Chromium is on the PATH'}")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, durations = draw_frames(record(folder, chromium), folder / "frames")
    first, *others = images
    first.save(options.out, save_all=True, append_images=others, duration=durations, loop=0, quality=QUALITY, method=4)
    size = options.out.stat().st_size
    seconds = sum(durations) / 1000
    print(f"{options.out}: {first.width} x {first.height}, {len(images)} frames, {seconds:.1f} s, {size:,} bytes")
    if size > MAX_WEBP_BYTES:
        parser.error(f"{options.out} is larger than {MAX_WEBP_BYTES:,} bytes; lower QUALITY")


if __name__ == "__main__":
    main()
