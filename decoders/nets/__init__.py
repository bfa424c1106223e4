"""The networks that decode latents to RGB, one file for each kind."""
