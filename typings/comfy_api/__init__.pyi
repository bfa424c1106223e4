"""Names of ComfyUI 0.33 that Safelight uses."""

from . import feature_flags as feature_flags
