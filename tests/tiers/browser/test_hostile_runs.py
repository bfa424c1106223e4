"""Runs that somebody made to do harm, opened from the disk and by `safelight view`, in a real browser."""

import json
import threading

import pytest
import torch
from PIL import Image
from safelight.cli.view import serve
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.script import recording
from safelight.preview.step import Step

HARM = """</script><script>document.title="harmed"</script><img src=x onerror="document.title='harmed'"><!-- '"\u2028"""
NAMES = [
    '"><img src=x onerror=alert(1)>.png',
    "javascript:alert(1).png",
    "#.png",
    "?a=b&c=d.png",
    "%2e%2e%2fsecret.png",
]
NAMES += ["{{1+1}}.png", "';alert(1);'.png", "\u202egnp.exe.png", "日本 🦊.png"]


def record(folder, text):
    sampler = {"steps": 2, "name": text, "scheduler": text, "seed": text, "cfg": text, "prompt": text}
    with recording(folder, SPACES["sd1"], sampler=sampler) as (pipeline, kept):
        for index in (1, 2):
            pipeline.offer(Step(index=index, total=2, sigma=1.0, denoised=torch.zeros(1, 4, 8, 8)))
        kept.run.note(text)
        kept.run.note(f"two {text}")
    return folder


def write(folder, **facts):
    """A run's folder by hand, with a picture for each name."""
    folder.mkdir(parents=True)
    names = [name for name in NAMES if "/" not in name]
    for name in names:
        Image.new("RGB", (16, 16), (90, 20, 120)).save(folder / name)
    text = {"name": HARM, "kind": HARM, "scale": HARM, "source": HARM}
    step = {"sigma": 1.0, "at": 0.1, "decode_ms": 1.0, "show": HARM, "latent": HARM}
    told = {
        "format": "safelight.run/1",
        "id": HARM,
        "state": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "host": text,
        "space": HARM,
        "decoder": text,
        "sampler": {"steps": len(names), "sigmas": HARM, "seed": HARM, "cfg": HARM, "name": HARM, "scheduler": HARM},
        "picture": {"width": 16, "height": 16, "shown_width": HARM, "items": HARM, "frames": 10**9, "fps": HARM},
        "steps": [{**step, "index": i, "files": [name, "../../secret.png"]} for i, name in enumerate(names, 1)],
        "sheet": HARM,
        "animation": "../x.webp",
        "notes": [HARM, f"two {HARM}"],
    } | facts
    (folder / "run.json").write_text(json.dumps(told))


@pytest.mark.parametrize("name", ["run", "'\"><img src=x onerror=alert(1)>"])
def test_a_run_from_the_disk_shows_texts_as_texts(tmp_path, browser, name):
    browser(do="open", url=(record(tmp_path / "plain", "plain") / "index.html").as_uri())
    expected = browser(do="until", want={"painted": True})["elements"]
    folder = record(tmp_path / name, HARM)
    browser(do="open", url=(folder / "index.html").as_uri())
    seen = browser(do="until", want={"painted": True})
    assert (seen["heading"], seen["title"]) == (name, f"{name} · Safelight")
    assert seen["elements"] == expected
    assert seen["notes"] == [HARM, f"two {HARM}"]
    # What the policy of the page had to forbid would be here, too.
    assert browser(do="heard")["troubles"] == []


def test_runs_made_to_do_harm_are_looked_at_beside_a_good_one(tmp_path, browser):
    (tmp_path / "secret.png").write_bytes(b"nobody's business")
    runs = tmp_path / "runs"
    write(runs / "a")
    write(runs / "b", sampler={"steps": 2**32}, started="2026-01-02T00:00:00+00:00")
    write(runs / "c", steps=[{"index": 2**50, "files": [NAMES[0]]}], started="2026-01-03T00:00:00+00:00")
    record(runs / "good", "plain")
    server = serve(runs, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        browser(do="open", url=server.url)
        browser(do="until", want={"painted": True, "thumbs": 4, "said": "4 runs"})
        for key in ("1", "2", "3", "4", "Home", "ArrowRight", "ArrowRight", "c", "End", "Escape"):
            browser(do="press", keys=[key])
        browser(do="until", want={"title": "runs · Safelight", "said": "4 runs"})
        browser(do="press", keys=["4"])
        told = browser(do="heard")
        assert told["troubles"] == []
        assert told["tabs"] <= 2
        assert not any("secret" in asked and "%252e" not in asked for asked in told["requests"])
        assert all(asked.startswith((server.url, "data:", "blob:http")) for asked in told["requests"])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
