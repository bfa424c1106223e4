"""The steps of watched samplers, for the nodes that use them after sampling."""

import json
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

import nodes

from ...errors import GoneError
from ...preview.images.thumbnails import StepImage
from ...preview.pipeline import CLOSE_TIMEOUT_S
from ...preview.run import Run
from ...preview.saved_run import SavedRun
from ...preview.sinks.latent_files import SavedLatents
from ...preview.sinks.run_folder import RunFolder
from .continue_from_step import Begun, Continuation, continuation
from .facts import Prompt
from .graph import between, upstream
from .sampler_schedule import SamplerSchedule
from .shared import Shared

MAX_RECORDS = 64  # for one node: an upscaler samples each tile


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedRun:
    """One run of a watched sampler.

    Args:
        run: the run.
        folders: folders with its pictures, the best first.
        latents: folder with its latents; None if none are saved.
        schedule: position of its steps in the sampler's schedule; None if it must be searched for.
        shapes: shapes of the latents; several if they are packed into one tensor.
        nodes: ids of the node that sampled, of the node that created it, and so on: the result of each is of this run.
        execution: number of the execution of that node, from 0: a list makes it sample several times.
        model: weak reference to the ModelPatcher that sampled.
        sampling: its `model_sampling`.
        latent_format: its latent format.
    """

    run: Run
    folders: Sequence[RunFolder]
    latents: RunFolder | None
    schedule: SamplerSchedule | None
    shapes: Sequence[Sequence[int]]
    nodes: Sequence[str]
    execution: int
    model: "weakref.ref[Any]"
    sampling: Any
    latent_format: Any

    @classmethod
    def of(
        cls,
        run: Run,
        folders: Sequence[RunFolder],
        latents: RunFolder | None,
        prompt: Prompt,
        model: Any,
        sigmas: Tensor,
        shapes: Sequence[Sequence[int]],
    ) -> "RecordedRun":
        """A record of the run that begins; `model` is the ModelPatcher that samples."""
        return cls(
            run=run,
            folders=folders,
            latents=latents,
            schedule=SamplerSchedule.of(prompt, len(sigmas) - 1),
            shapes=tuple(tuple(shape) for shape in shapes),
            nodes=prompt.creators,
            execution=prompt.execution,
            model=weakref.ref(model),
            sampling=model.get_model_object("model_sampling"),
            latent_format=model.get_model_object("latent_format"),
        )

    def facts(self) -> dict[str, str]:
        """Facts for the files with its latents."""
        return {"format_name": type(self.latent_format).__name__, "shapes": json.dumps(self.shapes)}


@final
class NodeRecords:
    """The newest runs of one Preview Steps, each with the key of its handle: a loop gives the node many handles."""

    def __init__(self) -> None:
        self.newest: deque[tuple[object, RecordedRun]] = deque(maxlen=MAX_RECORDS)


# By id of Preview Steps.
RECORDS: "weakref.WeakValueDictionary[str | None, NodeRecords]" = weakref.WeakValueDictionary()


@final
class RunHandle(Shared):
    """The runs of a watched model: the value of the output `steps` of Preview Steps.

    It lives as long as the watched model in ComfyUI's cache. Pictures and latents stay on disk.

    Args:
        model: ModelPatcher that is watched.
        node: id of Preview Steps on the user's page; None outside of a prompt.
    """

    def __init__(self, model: Any, node: str | None) -> None:
        self._model = model
        self._key = object()
        self._records = RECORDS.setdefault(node, NodeRecords())

    @property
    def model(self) -> Any:
        """ModelPatcher that is watched."""
        return self._model

    def add(self, record: RecordedRun) -> None:
        """Adds a run that begins."""
        self._records.newest.append((self._key, record))

    def after(self, prompt: Prompt) -> RecordedRun:
        """The newest run of the sampler that `after_sampling` of the executing node comes from, directly or not.

        If a list made both run several times, each execution of the executing node gets the run of the same execution
        of the sampler.

        Behind a loop, this is the run of its last turn, which another handle of the same Preview Steps may have
        watched. If the sampler is cached, its run belongs to an earlier prompt. If the sampler is unknown, the newest
        run of all is returned. The call waits until the run has ended, because a sampler does not wait for its screen.

        Raises:
            GoneError: there is no run, or it is unknown which of several runs is meant.
        """
        record = self._newest(prompt)
        if record is None:
            raise GoneError(
                "no sampler has used the model of this Preview Steps yet: put Preview Steps on a sampler's model line "
                "and connect the sampler's LATENT to after_sampling; if the sampler's result came from the cache, "
                "change its seed"
            )
        record.run.ended.wait(CLOSE_TIMEOUT_S)
        return record

    def _newest(self, prompt: Prompt) -> RecordedRun | None:
        own, others = list[RecordedRun](), list[RecordedRun]()
        for key, record in list(self._records.newest):
            if key is self._key:
                own.append(record)
            elif record.run.host["prompt_id"] == prompt.id:
                others.append(record)
        for node in upstream(prompt.graph, prompt.node, "after_sampling"):
            for records in (own, others):
                if found := [record for record in records if node in record.nodes]:
                    return _of_execution(prompt, node, found)
        return _of_execution(prompt, None, own) if own else None

    def pictures(self, record: RecordedRun, most: int) -> list[StepImage]:
        """Returns at most `most` pictures of a run, of evenly spread steps.

        Raises:
            GoneError: the pictures do not exist, or not any more.
        """
        for folder in record.folders:
            saved = SavedRun(folder.path, folder.manifest(), folder.title)
            if folder.path.is_dir() and (pictures := saved.pictures(most)):
                return pictures
        if any(folder.path.is_dir() for folder in record.folders):
            raise GoneError("this run has no pictures: its notes on the Preview Steps node say why")
        raise GoneError(
            "the pictures of this run are gone: newer runs needed the space, or their folder was deleted; "
            "sample again with another seed, or switch on write_intermediates"
        )

    def continuing(self, record: RecordedRun, step: int, model: Any = None) -> Continuation:
        """Returns what a sampler needs to continue from the beginning of a step of a run.

        Args:
            record: the run.
            step: number of the step; 0 for the last one that has latents.
            model: ModelPatcher that continues; None for the one that sampled.

        Raises:
            GoneError: there is no such step, or its latents do not exist, or not any more.
            LatentsError: no sampler can continue from this sampler's latents.
        """
        begun = Begun(
            latents=self._latents(record, step),
            sampler=record.run.sampler,
            shapes=record.shapes,
            schedule=record.schedule,
            sampling=record.sampling,
            latent_format=record.latent_format,
        )
        return continuation(begun, model or record.model() or self._model)

    def _latents(self, record: RecordedRun, step: int) -> SavedLatents:
        folder = record.latents
        if folder is None:
            raise GoneError("no latents of this run were saved: switch on keep_latents in Preview Steps")
        if not folder.path.is_dir():
            raise GoneError(
                f"the latents of {folder.title} are gone: its folder was deleted, or newer runs needed the space; "
                "sample again with another seed, or switch on write_intermediates"
            )
        saved = SavedRun(folder.path, folder.manifest(), folder.title)
        if not any(entry.latent for entry in saved.steps) and folder.run.notes:
            raise GoneError(f"this run has no latents: {'; '.join(folder.run.notes)}")
        return saved.latents(step or None)


def _of_execution(prompt: Prompt, node: str | None, records: Sequence[RecordedRun]) -> RecordedRun:
    """The newest of the records; if a list made the sampler `node` run several times, that of the same execution.

    Raises:
        GoneError: it is unknown which run is meant, or its record is gone.
    """
    newest = records[-1]
    executions = {
        record.execution: record
        for record in records
        if record.run.host["prompt_id"] == newest.run.host["prompt_id"] and record.nodes == newest.nodes
    }
    if len(executions) == 1:
        return newest
    way = () if node is None else between(prompt.graph, prompt.node, "after_sampling", node)
    if node is None or any(_changes_lists(prompt, each) for each in way):
        raise GoneError(
            f"the sampler ran {len(executions)} times in this prompt, and a list was split or merged between it and "
            "this node, so it is unknown which run is meant: connect the sampler's own LATENT to after_sampling"
        )
    last = max(executions)
    if prompt.execution < last and prompt.execution not in executions:
        raise GoneError(
            f"run {prompt.execution + 1} of {last + 1} is gone: the newest {MAX_RECORDS} runs of a Preview Steps are "
            "available; use shorter lists"
        )
    return executions[min(prompt.execution, last)]  # ComfyUI repeats the last item of a list that is too short


def _changes_lists(prompt: Prompt, node: str) -> bool:
    """Whether a node may get and output lists of different lengths."""
    found = nodes.NODE_CLASS_MAPPINGS.get(prompt.graph[node].get("class_type"))
    return bool(getattr(found, "INPUT_IS_LIST", False)) or any(getattr(found, "OUTPUT_IS_LIST", None) or ())
