"""A step happened, and a picture of it appears somewhere, later, without slowing the sampler."""
