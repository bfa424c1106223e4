"""The kinds of decoder, each a module of its own.

A kind is an `nn.Module` whose `__init__` takes the settings of a decoder file, whose `state_dict` is that file's
tensors, and whose attributes `channels` and `scale` say what it takes and makes. `conv`, `tiny_video` and `full` join
this table when they exist.
"""

from torch import nn

from .approx import Approx
from .mlp import Mlp
from .pixels import Pixels
from .polynomial import Polynomial
from .principal import Principal
from .timeline import Timeline
from .tiny import Tiny

KINDS: dict[str, type[nn.Module]] = {
    "polynomial": Polynomial,
    "mlp": Mlp,
    "tiny": Tiny,
    "approx": Approx,
    "principal": Principal,
    "pixels": Pixels,
    "timeline": Timeline,
}
