"""Samples in a loop of NumPy, and saves every step in a folder.

In a clone of Safelight:

    pip install -e ".[standalone]"
    python example_scripts/watch_a_numpy_loop.py --out runs/numpy

Loops of JAX, MLX and ONNX Runtime are recorded by the same three lines: `offer` takes their arrays as they are. To try
it with JAX, install it and replace the import of NumPy by `import jax.numpy as np`. In place of a trained model there
is the exact denoiser of the latents that Safelight ships, so nothing is downloaded.
"""

import argparse
from itertools import pairwise

import numpy as np
from numpy.random import default_rng
from safelight import recording
from safelight.cli.demo_sampler import load_latents, schedule


def denoise(x, sigma, clean):
    """Returns the mean of the `clean` latents `[K, H, W, C]`, weighted by how probable each of them is."""
    distance = ((x - (1 - sigma) * clean) ** 2).sum((1, 2, 3))
    logits = -distance / (2 * sigma**2)
    weights = np.exp(logits - logits.max())
    return (weights / weights.sum() @ clean.reshape(len(clean), -1)).reshape(x.shape)


def main() -> None:
    """Samples one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/numpy", help="folder of the run, empty or new (%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="number of steps (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the noise (%(default)s)")
    arguments = parser.parse_args()

    clean = np.array(load_latents().numpy().transpose(0, 2, 3, 1))  # channels last, as models of JAX and MLX
    x = np.array(default_rng(arguments.seed).standard_normal((1, *clean.shape[1:]), dtype=np.float32))
    sigmas = schedule(arguments.steps)

    with recording(arguments.out, "flux2", steps=arguments.steps) as run:
        for sigma, following in pairwise(sigmas):
            x0 = denoise(x, sigma, clean)
            run.offer(x0, sigma=sigma, channels_last=True)
            x = x0 + (x - x0) * (following / sigma)

    print(f"{arguments.steps} steps in {run.folder.path}; open {run.folder.path / 'index.html'}")


if __name__ == "__main__":
    main()
