"""The app in a real browser, around a pipeline whose model waits to be let go on."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
from PIL import Image

PICTURE, WORDS = "[data-testid=image] img, .image-frame img, .image-container img", ".prose.safelight-words"
GENERATE, STOP = "button:has-text('Generate')", "button:has-text('Stop')"
STEPS, SLIDER = (
    "input[type=number][aria-label*='Steps']",
    "input[type=range][aria-label*='slider for Step']:visible >> nth=-1",
)
SEED = "label:has-text('Seed') input"


def ask(hand, steps, seed=7):
    hand("wait", GENERATE)
    hand("fill", "label:has-text('Prompt') textarea", text="a lighthouse")
    hand("fill", STEPS, text=str(steps))
    hand("fill", SEED, text=str(seed))
    hand("press", keys=["Tab"])
    hand("click", GENERATE)


def test_the_live_picture_changes_during_the_run_and_afterwards_a_slider_goes_through_all_steps(hand, served, tmp_path):
    ask(hand, steps=5)
    live = [None]
    for index in range(1, 6):
        served.go_on(1)
        hand("says", WORDS, text=rf"step {index} / 5 · σ" if index < 5 else "finished")
        live.append(hand("other", PICTURE, than=live[-1])["src"])
    assert len(set(live)) == 6
    assert "seed 7" in hand("see", WORDS)["text"]

    slider = hand("see", SLIDER)
    assert (slider["@min"], slider["@max"], slider["value"]) == ("1", "6", "6")
    hand("focus", SLIDER)
    hand("press", keys=["ArrowLeft", "ArrowLeft"])
    hand("says", WORDS, text="^ ?step 4 · σ")
    fourth = hand("other", PICTURE, than=live[-1])
    assert fourth["width"] == 256, "at the size of the finished image"
    assert hand("count", ".gallery-item, .thumbnail-item") >= 6
    hand("click", ".gallery-item button, button.thumbnail-item")
    hand("says", WORDS, text="^ ?step 1 · σ")
    hand("other", PICTURE, than=fourth["src"])
    hand("shot", path=str(tmp_path / "app.png"))

    name = hand("download", "text=Download this run", path=str(tmp_path / "run.zip"))
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        folder = name.removesuffix(".zip")
        listed = set(archive.namelist())
        assert {f"{folder}/step_000{i}.webp" for i in range(1, 6)} < listed
        assert {f"{folder}/{one}" for one in ("result.png", "run.json", "index.html")} < listed
        manifest = json.loads(archive.read(f"{folder}/run.json"))
        result = Image.open(io.BytesIO(archive.read(f"{folder}/result.png")))
    assert (manifest["state"], manifest["sampler"]["seed"], len(manifest["steps"])) == ("finished", 7, 5)
    assert np.asarray(result).shape == (256, 256, 3)
    assert hand("heard") == []


def test_who_stops_keeps_what_is_there_and_may_begin_anew(hand, served):
    ask(hand, steps=40)
    served.go_on(2)
    hand("says", WORDS, text="step 2 / 40")
    hand("click", STOP)
    hand("says", WORDS, text="stopping")
    served.go_on(1)
    hand("says", WORDS, text=r"stopped at step [23] / 40")
    index = re.search(r"step (\d)", hand("see", WORDS)["text"])[1]
    assert hand("see", SLIDER)["@max"] == index
    assert hand("see", PICTURE)["painted"]
    manifests = [json.loads(path.read_text()) for path in served.folder.glob("runs/*/run.json")]
    assert "interrupted" in {manifest["state"] for manifest in manifests}
    ask(hand, steps=2)
    served.go_on(2)
    hand("says", WORDS, text="finished")
    assert hand("see", SLIDER)["@max"] == "3"
    assert hand("heard") == []


def test_who_goes_away_stops_the_run(hand, served):
    ask(hand, steps=90, seed=11)
    served.go_on(1)
    hand("says", WORDS, text="step 1 / 90")
    hand("open", url="about:blank")
    served.go_on(3)
    hand("open", url=served.url)
    ask(hand, steps=1)
    served.go_on(1)
    hand("says", WORDS, text="finished")


def test_what_the_pipeline_raises_is_told_and_the_next_run_goes_on(hand, served):
    hand("wait", GENERATE)
    for side in ("Width", "Height"):
        hand("fill", f"label:has-text('{side}') input", text="37")
    ask(hand, steps=2)
    hand("says", WORDS, text="have to be divisible by 8")
    for side in ("Width", "Height"):
        hand("fill", f"label:has-text('{side}') input", text="0")
    ask(hand, steps=1)
    served.go_on(1)
    hand("says", WORDS, text="finished")


def test_the_command_opens_a_pipeline_from_its_folder(served, tmp_path):
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
        told = next((line for line in running.stdout if "http" in line), "")
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    assert re.search(r"^StableDiffusionPipeline from .*: http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)$", told)
