"""What latents mean: spaces, layouts and how to identify them."""
