"""The app with a tiny pipeline; a line with a number on stdin lets its model continue for so many steps.

Usage: `python served.py FOLDER`
"""

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


def wait(*_) -> None:
    go_on.acquire(timeout=60)


pipeline.unet.register_forward_pre_hook(wait)
page = launch(pipeline, folder / "runs")
print(page.local_url, flush=True)
for line in sys.stdin:
    go_on.release(int(line))
page.close()
