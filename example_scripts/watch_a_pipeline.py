"""Runs a diffusers pipeline, shows every step on the screen, and saves every step in a folder.

    python watch_a_pipeline.py stable-diffusion-v1-5/stable-diffusion-v1-5 "a lighthouse at dusk" --out runs

The first argument goes to `DiffusionPipeline.from_pretrained`: a folder, or a name on the Hub.
"""

import argparse

import torch
from diffusers import DiffusionPipeline
from safelight import watch


def main() -> None:
    """Runs the pipeline that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline", help="folder of a pipeline, or its name on the Hub")
    parser.add_argument("prompt")
    parser.add_argument("--out", default="runs", help="folder of runs (%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="number of steps (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the noise (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="%(default)s")
    arguments = parser.parse_args()

    dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
    pipe = DiffusionPipeline.from_pretrained(arguments.pipeline, torch_dtype=dtype).to(arguments.device)

    with watch(pipe, out=arguments.out) as run:
        generator = torch.Generator().manual_seed(arguments.seed)
        image = pipe(arguments.prompt, num_inference_steps=arguments.steps, generator=generator).images[0]

    image.save(run.folder / "final.png")
    print(f"{len(run.pictures)} steps in {run.folder}; open {run.folder / 'index.html'}")
    for note in run.notes:
        print(note)


if __name__ == "__main__":
    main()
