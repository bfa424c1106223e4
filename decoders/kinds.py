"""The kinds of decoder, each a module of its own.

`full` joins this table when it exists.
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
from .tiny_video import TinyVideo

KINDS: dict[str, type[Net]] = {
    "polynomial": Polynomial,
    "mlp": Mlp,
    "conv": Conv,
    "tiny": Tiny,
    "tiny_video": TinyVideo,
    "approx": Approx,
    "principal": Principal,
    "pixels": Pixels,
    "timeline": Timeline,
}
