"""A small gradio app around a diffusers pipeline.

for image in previews(pipe, "a lighthouse"):    a generator, for an app of your own
launch(pipe, out="runs")                        this app
"""

from .app import launch, previews

__all__ = ["launch", "previews"]
