"""A diffusers pipeline, watched: every step on the screen while it is made, and in a folder afterwards.

    python watch_a_pipeline.py stable-diffusion-v1-5/stable-diffusion-v1-5 "a lighthouse at dusk" --out runs

The first argument is what `DiffusionPipeline.from_pretrained` takes: a folder, or a name on the Hub.
"""

import argparse

import torch
from diffusers import DiffusionPipeline
from safelight.hosts.diffusers import watch


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline", help="a folder, or a name on the Hub")
    parser.add_argument("prompt")
    parser.add_argument("--out", default="runs", help="the folder of runs")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()

    dtype = torch.float32 if asked.device == "cpu" else torch.bfloat16
    pipe = DiffusionPipeline.from_pretrained(asked.pipeline, torch_dtype=dtype).to(asked.device)

    with watch(pipe, out=asked.out) as run:
        generator = torch.Generator().manual_seed(asked.seed)
        image = pipe(asked.prompt, num_inference_steps=asked.steps, generator=generator).images[0]

    image.save(run.folder / "final.png")
    print(f"{len(run.pictures)} steps in {run.folder}; open {run.folder / 'index.html'}")
    for note in run.notes:
        print(note)


if __name__ == "__main__":
    main()
