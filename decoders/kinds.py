"""The kinds of decoder, each a module of its own.

`tiny_video` and `full` join this table when they exist.
"""

from .approx import Approx
from .conv import Conv
from .mlp import Mlp
from .net import Net
from .pixels import Pixels
from .polynomial import Polynomial
from .principal import Principal
from .timeline import Timeline
from .tiny import Tiny

KINDS: dict[str, type[Net]] = {
    "polynomial": Polynomial,
    "mlp": Mlp,
    "conv": Conv,
    "tiny": Tiny,
    "approx": Approx,
    "principal": Principal,
    "pixels": Pixels,
    "timeline": Timeline,
}
