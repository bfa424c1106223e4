"""Defines latent spaces and identifies the space of given latents."""
