"""A process that records runs on request, each in a child that a test can kill at any moment.

It reads one line for each run: the run's folder. It writes the child's number, then the index of each offered step.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.script import DEFAULTS, recording
from safelight.preview.sinks import run_folder
from safelight.preview.step import Step

STEPS = 40


def record(folder, out):
    run_folder.MIN_SAVE_INTERVAL_S = 0.0  # run.json is written at every step: more moments to be killed in
    options = replace(DEFAULTS, enlarge="nearest")
    with recording(folder, SPACES["sd1"], options=options, sampler={"steps": STEPS}) as (pipeline, _):
        for index in range(1, STEPS + 1):
            latents = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(index))
            pipeline.offer(Step(index=index, total=STEPS, sigma=1.0, denoised=latents))
            out.write(f"{index}\n")
            out.flush()
            while not (folder / "run.json").exists():
                pass  # a real model's step takes longer than the worker needs to write the record


def main():
    torch.set_num_threads(1)  # after a fork, the child has only the thread that called it
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
