"""Decodes latents to RGB."""
