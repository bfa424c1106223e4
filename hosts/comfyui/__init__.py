"""The host ComfyUI."""
