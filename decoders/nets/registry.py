"""The table of decoder kinds: from the name in files and settings to the class."""

from .base import Net
from .conv import Conv
from .heatmap import Heatmap
from .mlp import Mlp
from .pca import PrincipalComponents
from .pixels import Pixels
from .polynomial import Polynomial
from .taehv import Taehv
from .taesd import Taesd
from .vae_approx import VaeApprox

KINDS: dict[str, type[Net]] = {
    "polynomial": Polynomial,
    "mlp": Mlp,
    "conv": Conv,
    "tiny": Taesd,
    "tiny_video": Taehv,
    "approx": VaeApprox,
    "principal": PrincipalComponents,
    "pixels": Pixels,
    "timeline": Heatmap,
}
KINDS_WITHOUT_WEIGHTS = ("principal", "pixels", "timeline")
