"""Names of ComfyUI 0.33 that Safelight uses."""

__version__: str
