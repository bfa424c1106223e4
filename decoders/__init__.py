"""Latents in, RGB out."""
