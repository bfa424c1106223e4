"""How diffusers says it: pipelines in a script or a notebook.

    with watch(pipe, out="runs") as run:
        image = pipe("a lighthouse").images[0]

    image = pipe("a lighthouse", callback_on_step_end=Previews(pipe, out="runs")).images[0]

Nothing of diffusers is imported: whoever has a pipeline has it.
"""

from .callback import Previews
from .options import Options
from .watch import WatchedPipeline, watch
from .watched_run import WatchedRun

__all__ = ["Options", "Previews", "WatchedPipeline", "WatchedRun", "watch"]
