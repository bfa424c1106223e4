"""Samples with a scheduler of diffusers in a loop of its own, shows every step, and saves every step in a folder.

In a clone of Safelight:

    pip install -e '.[diffusers]'
    python example_scripts/watch_a_scheduler_loop.py --out runs

In place of a trained model it has the exact denoiser of the latents that Safelight ships, so it downloads nothing.
"""

import argparse

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safelight import watch
from safelight.cli.demo_sampler import ExactDenoiser, load_latents


def main() -> None:
    """Samples one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs", help="folder of runs (%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="number of steps (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the noise (%(default)s)")
    arguments = parser.parse_args()

    latents = load_latents()
    height, width = (side - 16 for side in latents.shape[2:])
    denoise = ExactDenoiser(latents, (height, width))
    x = torch.randn(1, latents.shape[1], height, width, generator=torch.Generator().manual_seed(arguments.seed))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=40.0)
    scheduler.set_timesteps(arguments.steps)

    with watch(scheduler, space="flux2", out=arguments.out) as run:
        for t, sigma in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
            velocity = (x - denoise(x, sigma)) / sigma  # what a flow model predicts
            x = scheduler.step(velocity, t, x).prev_sample

    print(f"{len(run.pictures)} steps in {run.folder}; open {run.folder / 'index.html'}")
    for note in run.notes:
        print(note)


if __name__ == "__main__":
    main()
