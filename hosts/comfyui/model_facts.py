"""Adds the model and the LoRAs of a run to its record, on the worker: their files are looked up and read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import folder_paths

import nodes

from ...preview.run import Run
from ...preview.sinks.base import Delivery, Sink
from ..model_file_hash import model_file_hash
from .facts import Prompt
from .model_line import model_line

MODEL_FOLDERS = ("checkpoints", "diffusion_models", "unet_gguf")  # ComfyUI's names; the last is ComfyUI-GGUF's
LORA_FOLDERS = ("loras",)


@final
class ModelFacts(Sink):
    """Finds the files of a run's model and of its LoRAs when the run begins.

    Args:
        run: run that gets the facts.
        prompt: prompt that runs.
    """

    name = "the model in run.json"
    delivery = Delivery.NEWEST  # opened after the screen, which need not wait for it

    def __init__(self, run: Run, prompt: Prompt) -> None:
        self._run, self._prompt = run, prompt

    def open(self) -> None:
        # A sampler may get its model in a bundle of several things. Then Preview Steps is behind the loaders.
        starts = [self._prompt.node, self._run.host["node"]]
        line = model_line(self._prompt.graph, starts, _output_type)
        models = dict.fromkeys(found for names in line.nodes if (found := _first_found(names, MODEL_FOLDERS)))
        if not models:
            return
        loras = [(lora, _first_found([lora.name], LORA_FOLDERS)) for lora in line.loras]
        self._run.know(
            model={
                "name": " + ".join(name for name, _ in models),  # several are merged
                "hash": model_file_hash(next(iter(models))[1]) if len(models) == 1 else None,
            },
            loras=[
                {"name": lora.name, "hash": found and model_file_hash(found[1]), "weight": lora.weight}
                for lora, found in loras
            ],
        )


def _output_type(class_type: str, output: int) -> str | None:
    types = getattr(nodes.NODE_CLASS_MAPPINGS.get(class_type), "RETURN_TYPES", None) or ()
    return types[output] if 0 <= output < len(types) else None


def _first_found(names: Iterable[str], folders: Iterable[str]) -> tuple[str, Path] | None:
    """The first name of a file in one of ComfyUI's model folders, and the file's path."""
    paths: Iterable[tuple[str, Any]] = (
        (name, folder_paths.get_full_path(folder, name)) for name in names for folder in folders
    )
    return next(((name, Path(path)) for name, path in paths if path), None)
