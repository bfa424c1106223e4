"""Trains a small flow model, and records its validations step by step of the training.

In a clone of Safelight:

    pip install -e ".[standalone]" accelerate
    accelerate launch --cpu --num_processes 2 example_scripts/watch_a_training.py --out runs/training

Or `python example_scripts/watch_a_training.py` without accelerate. Then `safelight view runs/training` shows each seed
over the training. The data are the latents that Safelight ships, so nothing is downloaded.
"""

import argparse
from itertools import pairwise

import torch
from safelight.cli.demo_sampler import load_latents
from safelight.hosts.trainer import TrainingRecord
from torch import nn

SIDE = 32  # of a crop, in latent pixels


class Velocity(nn.Module):
    """Predicts the direction from the image to the noise, at the noise level `sigma`."""

    def __init__(self, channels: int = 32, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + 1, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Returns `[B, C, H, W]` for `x` `[B, C, H, W]` and `sigma` `[B]`."""
        return self.layers(torch.cat((x, sigma.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])), dim=1))


@torch.no_grad()
def sample(model: nn.Module, seed: int, steps: int = 10) -> torch.Tensor:
    """Returns finished latents, as a validation of a trainer samples them."""
    x = torch.randn(1, 32, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    sigmas = torch.linspace(1, 0, steps + 1)
    for sigma, following in pairwise(sigmas):
        x = x + (following - sigma) * model(x, sigma[None])
    return x


def main() -> None:
    """Trains and validates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/training", help="folder of the training (%(default)s)")
    parser.add_argument("--steps", type=int, default=400, help="steps of the training (%(default)s)")
    parser.add_argument("--every", type=int, default=50, help="steps between validations (%(default)s)")
    arguments = parser.parse_args()

    model, data = Velocity(), load_latents()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    try:
        from accelerate import Accelerator
    except ImportError:
        backward = torch.Tensor.backward
    else:
        accelerator = Accelerator(cpu=True)
        model, optimizer = accelerator.prepare(model, optimizer)
        backward = accelerator.backward

    record = TrainingRecord(arguments.out, space="flux2", total_steps=arguments.steps)
    for step in range(1, arguments.steps + 1):
        top, left = (int(torch.randint(data.shape[2] - SIDE + 1, ())) for _ in range(2))
        clean = data[:, :, top : top + SIDE, left : left + SIDE]
        noise, sigma = torch.randn_like(clean), torch.rand(len(clean))
        mix = sigma.view(-1, 1, 1, 1)
        loss = (model((1 - mix) * clean + mix * noise, sigma) - (noise - clean)).square().mean()
        backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if step % arguments.every == 0:
            for seed in (0, 1):
                folder = record.sampled(step=step, prompt="a picture", seed=seed, latents=sample(model, seed))
                if folder is not None:
                    print(f"step {step}, loss {loss.item():.3f}: {folder}")


if __name__ == "__main__":
    main()
