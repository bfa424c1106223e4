"""Pictures that tests give to pipelines."""

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 32, 48


def picture(height=HEIGHT, width=WIDTH):
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


def mask(height=HEIGHT, width=WIDTH):
    """The right half is sampled."""
    return Image.fromarray(np.repeat([[0] * (width // 2) + [255] * (width // 2)], height, 0).astype(np.uint8))


def video(frames, height=HEIGHT, width=WIDTH):
    return [picture(height, width)] * frames


IMAGE, MASK, CONTROL = {"image": picture()}, {"mask_image": mask()}, {"control_image": picture()}
HALF = {"strength": 0.5}
