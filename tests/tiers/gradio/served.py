"""The app with a tiny pipeline; a line with a number on stdin lets its model continue for so many steps.

Any other line is JSON of a text: the model's next step raises an error with it.

Usage: `python served.py FOLDER`
"""

import json
import sys
import threading
from pathlib import Path

folder = Path(sys.argv[1])
sys.path.insert(0, str(Path(__file__).parent))

import tiny  # noqa: E402
from safelight.hosts.gradio.app import launch  # noqa: E402

pipeline = tiny.pipeline(folder / "tokenizer")
pipeline.set_progress_bar_config(disable=True)
pipeline.save_pretrained(folder / "pipeline")
go_on = threading.Semaphore(0)


texts = []


def wait(*_) -> None:
    go_on.acquire(timeout=60)
    if texts:
        raise RuntimeError(texts.pop())


pipeline.unet.register_forward_pre_hook(wait)
page = launch(pipeline, folder / "runs")
print(page.local_url, flush=True)
for line in sys.stdin:
    steps = json.loads(line)
    if isinstance(steps, str):
        texts.append(steps)
        steps = 1
    go_on.release(steps)
page.close()
