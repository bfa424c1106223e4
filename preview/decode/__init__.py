"""Turns a step's latents into pixels, on the worker thread."""
