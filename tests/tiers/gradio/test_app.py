"""The app in a real browser, with a pipeline whose model waits before each step."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from safelight.errors import printable

PICTURE, STATUS = "[data-testid=image] img, .image-frame img, .image-container img", ".prose.safelight-status"
TOAST = "[data-testid=toast-body]"
GENERATE, STOP = "button:has-text('Generate')", "button:has-text('Stop')"
STEPS, SLIDER = (
    "input[type=number][aria-label*='Steps']",
    "input[type=range][aria-label*='slider for Step']:visible >> nth=-1",
)
SEED = "label:has-text('Seed') input"


def generate(hand, steps, seed=7):
    hand("wait", GENERATE)
    hand("fill", "label:has-text('Prompt') textarea", text="a lighthouse")
    hand("fill", STEPS, text=str(steps))
    hand("fill", SEED, text=str(seed))
    hand("press", keys=["Tab"])
    hand("click", GENERATE)


def manifests(served):
    return [json.loads(path.read_text()) for path in sorted(served.folder.glob("runs/*/run.json"))]


def test_the_picture_changes_during_the_run_and_then_a_slider_shows_all_steps(hand, served, tmp_path):
    generate(hand, steps=5)
    live = [None]
    for index in range(1, 6):
        served.go_on(1)
        hand("says", STATUS, text=rf"step {index} / 5 · σ" if index < 5 else "finished")
        live.append(hand("other", PICTURE, than=live[-1])["src"])
    assert len(set(live)) == 6
    assert "seed 7" in hand("see", STATUS)["text"]

    slider = hand("see", SLIDER)
    assert (slider["@min"], slider["@max"], slider["value"]) == ("1", "6", "6")
    hand("focus", SLIDER)
    hand("press", keys=["ArrowLeft", "ArrowLeft"])
    hand("says", STATUS, text="^ ?step 4 · σ")
    fourth = hand("other", PICTURE, than=live[-1])
    assert fourth["width"] == 256, "at the size of the final image"
    assert hand("count", ".gallery-item, .thumbnail-item") >= 6
    hand("click", ".gallery-item button, button.thumbnail-item")
    hand("says", STATUS, text="^ ?step 1 · σ")
    hand("other", PICTURE, than=fourth["src"])
    hand("shot", path=str(tmp_path / "app.png"))

    name = hand("download", "text=Download this run", path=str(tmp_path / "run.zip"))
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        folder = name.removesuffix(".zip")
        listed = set(archive.namelist())
        assert {f"{folder}/step_000{i}.webp" for i in range(1, 6)} < listed
        assert {f"{folder}/{file}" for file in ("result.png", "run.json", "index.html")} < listed
        manifest = json.loads(archive.read(f"{folder}/run.json"))
        result = Image.open(io.BytesIO(archive.read(f"{folder}/result.png")))
    assert (manifest["state"], manifest["sampler"]["seed"], len(manifest["steps"])) == ("finished", 7, 5)
    assert np.asarray(result).shape == (256, 256, 3)
    assert hand("heard") == []


def test_a_stopped_run_shows_its_steps_and_the_next_run_works(hand, served):
    generate(hand, steps=40)
    served.go_on(2)
    hand("says", STATUS, text="step 2 / 40")
    hand("click", STOP)
    hand("says", STATUS, text="stopping")
    served.go_on(1)
    hand("says", STATUS, text=r"stopped at step [23] / 40")
    index = re.search(r"step (\d)", hand("see", STATUS)["text"])[1]
    assert hand("see", SLIDER)["@max"] == index
    assert hand("see", PICTURE)["painted"]
    assert "interrupted" in {manifest["state"] for manifest in manifests(served)}
    generate(hand, steps=2)
    served.go_on(2)
    hand("says", STATUS, text="finished")
    assert hand("see", SLIDER)["@max"] == "3"
    assert hand("heard") == []


def test_a_browser_that_leaves_stops_its_run(hand, served):
    generate(hand, steps=90, seed=11)
    served.go_on(1)
    hand("says", STATUS, text="step 1 / 90")
    hand("open", url="about:blank")
    served.go_on(3)
    hand("open", url=served.url)
    generate(hand, steps=1)
    served.go_on(1)
    hand("says", STATUS, text="finished")
    [left] = [manifest for manifest in manifests(served) if manifest["sampler"]["seed"] == 11]
    assert (left["state"], left["steps"][-1]["index"] <= 4) == ("interrupted", True)


def test_an_exception_of_the_pipeline_is_shown_and_the_next_run_works(hand, served):
    hand("wait", GENERATE)
    for side in ("Width", "Height"):
        hand("fill", f"label:has-text('{side}') input", text="37")
    generate(hand, steps=2)
    hand("says", STATUS, text="have to be divisible by 8")
    before = len(manifests(served))
    for side in ("Width", "Height"):
        hand("fill", f"label:has-text('{side}') input", text="0")
    generate(hand, steps=1)
    served.go_on(1)
    hand("says", STATUS, text="finished")
    states = [manifest["state"] for manifest in manifests(served)]
    assert (len(states), states[-1]) == (before + 1, "finished"), "a call that fails before sampling is no run"


@pytest.mark.parametrize(
    "text",
    [
        "x<img src=http://127.0.0.1:1/x.png onerror=alert(1)>",
        "my_decoder_name *v2* `code` $x$ $$y$$ # | ~~no~~ [a](http://127.0.0.1:1/)",
        "1. &lt;b&gt; http://127.0.0.1:1/ \\(z\\) - exe.\u202egnp",
    ],
)
def test_a_name_in_an_error_is_text(hand, served, text):
    generate(hand, steps=2)
    served.fail(text)
    shown = printable(text)
    hand("says", STATUS, text=re.escape(shown))
    assert hand("see", STATUS)["text"].strip() == f"RuntimeError: {shown}"
    hand("says", TOAST, text=re.escape(shown))
    for place in (STATUS, TOAST):
        for element in ("img", "a", "em", "code", "del", ".katex", "ol", "script"):
            assert hand("count", f"{place} {element}") == 0, (place, element)


def test_the_command_opens_a_pipeline_from_a_folder(served, tmp_path):
    script = "import sys; from safelight.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "gradio", "--pipeline", str(served.folder / "pipeline")]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    with subprocess.Popen(
        [*command, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as running:
        line = next((line for line in running.stdout if "http" in line), "")
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    assert re.search(
        r"^StableDiffusionPipeline from .*: http://127\.0\.0\.1:\d+/\?key=[\w-]{32} \(Ctrl-C ends it\)$", line
    )
