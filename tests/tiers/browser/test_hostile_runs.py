"""Runs with malicious content, opened from the disk and by `safelight view`, in a real browser."""

import json
import threading

import pytest
import torch
from PIL import Image
from safelight.cli.view import serve
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import printable
from safelight.hosts.script import recording
from safelight.preview.step import Step

HARM = """</script><script>document.title="harmed"</script><img src=x onerror="document.title='harmed'"><!-- '"\u2028"""
# A run with a name that only some systems can hold is not listed.
REFUSED = ["../../secret.png", "javascript:alert(1).png", '"><img src=x onerror=alert(1)>.png', "?a=b&c=d.png"]
NAMES = ["' onerror='alert(1).png", "javascript&colon;alert(1).png", "#.png", "&a=b&c=d.png", "%2e%2e%2fsecret.png"]
NAMES += ["{{1+1}}.png", "';alert(1);'.png", "\u202egnp.exe.png", "日本 🦊.png"]


def record(folder, text):
    sampler = {"steps": 2, "name": text, "scheduler": text, "seed": text, "cfg": text, "prompt": text}
    with recording(folder, SPACES["sd1"], sampler=sampler) as (pipeline, saved):
        for index in (1, 2):
            pipeline.offer(Step(index=index, total=2, sigma=1.0, denoised=torch.zeros(1, 4, 8, 8)))
        saved.run.note(text)
        saved.run.note(f"two {text}")
    return folder


def write(folder, **facts):
    """Writes a run's folder with hostile texts in its manifest, and a picture for each name."""
    folder.mkdir(parents=True)
    for name in NAMES:
        Image.new("RGB", (16, 16), (90, 20, 120)).save(folder / name)
    text = {"name": HARM, "kind": HARM, "scale": HARM, "source": HARM}
    step = {"sigma": 1.0, "at": 0.1, "decode_ms": 1.0, "show": HARM, "latent": NAMES[0]}
    manifest = {
        "format": "safelight.run/1",
        "id": HARM,
        "state": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "host": text,
        "space": HARM,
        "decoder": text,
        "sampler": {"steps": len(NAMES), "sigmas": HARM, "seed": HARM, "cfg": HARM, "name": HARM, "scheduler": HARM},
        "picture": {"width": 16, "height": 16, "shown_width": HARM, "items": HARM, "frames": 10**9, "fps": HARM},
        "steps": [{**step, "index": i, "files": [name, "run.json"]} for i, name in enumerate(NAMES, 1)],
        "sheet": NAMES[0],
        "animation": NAMES[1],
        "notes": [HARM, f"two {HARM}"],
    } | facts
    (folder / "run.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["run", "'\"><img src=x onerror=alert(1)>"])
def test_a_run_from_the_disk_shows_markup_as_text(tmp_path, browser, name):
    browser(do="open", url=(record(tmp_path / "plain", "plain") / "index.html").as_uri())
    expected = browser(do="until", want={"painted": True})["elements"]
    folder = record(tmp_path / name, HARM)
    browser(do="open", url=(folder / "index.html").as_uri())
    seen = browser(do="until", want={"painted": True})
    assert (seen["heading"], seen["title"]) == (name, f"{name} · Safelight")
    assert seen["elements"] == expected
    assert seen["notes"] == [printable(HARM), f"two {printable(HARM)}"]
    # A violation of the page's policy would be an error, too.
    assert browser(do="log")["errors"] == []


def test_malicious_runs_are_shown_beside_a_good_one(tmp_path, browser):
    (tmp_path / "secret.png").write_bytes(b"secret")
    runs = tmp_path / "runs"
    write(runs / "a")
    write(runs / "b", sampler={"steps": 2**32}, started="2026-01-02T00:00:00+00:00")
    write(runs / "c", steps=[{"index": 2**50, "files": [NAMES[0]]}], started="2026-01-03T00:00:00+00:00")
    for number, name in enumerate([*REFUSED, "</script>.png"]):
        write(runs / f"refused {number}", steps=[{"index": 1, "files": [name]}])
    record(runs / "good", "plain")
    server = serve(runs, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        browser(do="open", url=f"{server.url}#viewer")
        browser(do="until", want={"painted": True, "thumbs": 4, "summary": "4 runs"})
        for key in ("1", "2", "3", "4", "Home", "ArrowRight", "ArrowRight", "c", "End", "Escape"):
            browser(do="press", keys=[key])
        browser(do="until", want={"title": "runs · Safelight", "summary": "4 runs"})
        browser(do="press", keys=["4"])
        log = browser(do="log")
        assert log["errors"] == []
        assert log["tabs"] <= 2
        assert not any("secret" in url and "%252e" not in url for url in log["requests"])
        assert all(url.startswith((server.address, "data:", "blob:http")) for url in log["requests"])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
