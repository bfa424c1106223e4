"""Previews of diffusers pipelines, in a script or a notebook.

    with watch(pipe, out="runs") as run:
        image = pipe("a lighthouse").images[0]

    image = pipe("a lighthouse", callback_on_step_end=Previews(pipe, out="runs")).images[0]

diffusers itself is not imported: the user passes the pipeline.
"""

from .callback import Previews
from .options import WatchOptions
from .watch import WatchedPipeline, watch
from .watched_run import WatchedRun

__all__ = ["Previews", "WatchOptions", "WatchedPipeline", "WatchedRun", "watch"]
