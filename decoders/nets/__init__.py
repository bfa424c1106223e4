"""The networks that turn latents into RGB, one file for each kind."""
