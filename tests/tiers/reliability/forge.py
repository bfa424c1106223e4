"""A process that records runs on request, each in a child of its own that can be killed at any moment.

One line in: the folder of a run. One line out: the child's number; then one for each step that was offered.
"""

import os
import sys
from pathlib import Path

import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.script import recording
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.sinks import run_folder as folders
from safelight.preview.step import Step

STEPS = 40


def record(folder, out):
    folders.MIN_SAVE_INTERVAL_S = 0.0  # the record is written at every step: more moments to be killed in
    with recording(folder, SPACES["sd1"], encoding=ImageEncoding(enlarge="nearest"), sampler={"steps": STEPS}) as (
        pipeline,
        _,
    ):
        for index in range(1, STEPS + 1):
            latents = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(index))
            pipeline.offer(Step(index=index, total=STEPS, sigma=1.0, denoised=latents))
            out.write(f"{index}\n")
            out.flush()
            while not (folder / "run.json").exists():
                pass  # no step of a model is as short as this


def main():
    torch.set_num_threads(1)  # a child of a process with many threads has only one of them
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                record(Path(line.rstrip("\n")), sys.stdout)
            finally:
                os._exit(0)
        sys.stdout.write(f"child {child}\n")
        sys.stdout.flush()
        os.waitpid(child, 0)
        sys.stdout.write("end\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
