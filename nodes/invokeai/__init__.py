"""The nodes of InvokeAI: importing this registers them."""

from .decode import SafelightQuickDecode
from .twins import TWINS

NODES = [*TWINS, SafelightQuickDecode]
