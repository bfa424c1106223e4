"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

from . import io as io
from . import ui as ui

ComfyAPI: Any
Previews: Any

class ComfyExtension: ...
