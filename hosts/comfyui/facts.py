"""Facts that ComfyUI has about a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy_execution.graph import DynamicPrompt
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from comfyui_version import __version__
from server import PromptServer
from torch import Tensor

from ...decoders.latents.identify import Evidence
from ...decoders.latents.space import MAX_SPACE_FPS
from .graph import chain, inputs_of, linked_node, mapping
from .owners import OWNER

EMPTY_WORKFLOW, WORKFLOW_KEY = "00000000-0000-0000-0000-000000000000", "safelight_workflow"


@dataclass(frozen=True)
class Prompt:
    """The prompt that ComfyUI executes.

    Args:
        id: id of the prompt; None outside of one.
        node: id of the executing node, `6:2` in a subgraph. It may be a node that another node created.
        sent: nodes by id, as the client sent them.
        graph: these, and the nodes that other nodes created since: the later turns of a loop.
        displays: for each created node the node that it is shown on, which may be a created one too.
        parents: for each created node the node that created it.
        workflow: the client's workflow, with positions and titles of nodes; None if it sent none, or something else.
        sent_workflow: what the client sent as workflow, of any form, for the metadata of pictures.
        client: id of the client that receives events; None if there is none.
        owner: text that stands for the browser that queued it, see `owners.py`; None if it sent no key.
        execution: number of this execution of the node, from 0: a node runs once for each item of a list.
    """

    id: str | None = None
    node: str | None = None
    sent: Mapping[str, Any] = field(default_factory=dict)
    graph: Mapping[str, Any] = field(default_factory=dict)
    displays: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    workflow: Mapping[str, Any] | None = None
    sent_workflow: Any = None
    client: str | None = None
    owner: str | None = None
    execution: int = 0

    @classmethod
    def current(cls) -> "Prompt":
        """The prompt of the calling thread. ComfyUI stores it in a context variable, which other threads do not have.

        Preview Steps may be cached from an earlier prompt, with its hidden inputs; only the queue has the current one.
        """
        context = get_executing_context()
        if context is None:
            return cls()
        expansion = get_progress_state()
        created = expansion.dynprompt if expansion.prompt_id == context.prompt_id else DynamicPrompt({})
        running, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
        for _, prompt_id, graph, extra, *_ in running:
            if prompt_id == context.prompt_id:
                sent_workflow = mapping(extra.get("extra_pnginfo")).get("workflow")
                client = extra.get("client_id")
                return cls(
                    id=prompt_id,
                    node=context.node_id,
                    sent=graph,
                    graph={**graph, **created.ephemeral_prompt},
                    displays=created.ephemeral_display,
                    parents=created.ephemeral_parents,
                    workflow=mapping(sent_workflow) or None,
                    sent_workflow=sent_workflow,
                    client=client if isinstance(client, str) else None,
                    owner=extra.get(OWNER),
                    execution=context.list_index or 0,
                )
        return cls(id=context.prompt_id, node=context.node_id, execution=context.list_index or 0)

    @property
    def workflow_id(self) -> str | None:
        """The id of the client's workflow; None if it has none.

        A graph that was cleared has the empty id. `web/node-place.mjs` gives it another one.
        """
        workflow = mapping(self.workflow)
        found = workflow.get("id")
        if found == EMPTY_WORKFLOW:
            found = mapping(workflow.get("extra")).get(WORKFLOW_KEY, found)
        return found if isinstance(found, str) else None

    def display_id(self, node: str | None) -> str | None:
        """The node on the user's page that stands for `node`: in a later turn of a loop, the node of the first."""
        return next(reversed(chain(self.displays, node)), None)

    @property
    def creators(self) -> tuple[str, ...]:
        """The executing node, the node that created it, the creator of that one, and so on."""
        return chain(self.parents, self.node)

    def sampler_input(self, name: str) -> str | None:
        """A name typed into the executing node; None if there is none, or if it comes from another node."""
        value = inputs_of(self.graph, self.node).get(name)
        return value if isinstance(value, str) else None

    @property
    def strength(self) -> float | None:
        """The `denoise` that is typed into the executing node, or into that of its sigmas; None if there is none."""
        inputs = inputs_of(self.graph, self.node)
        for each in (inputs, inputs_of(self.graph, linked_node(inputs.get("sigmas")))):
            if isinstance(value := each.get("denoise"), int | float) and not isinstance(value, bool):
                return float(value)
        return None

    def host(self, node: str | None) -> dict[str, Any]:
        """ComfyUI's facts for `run.json`. `node` is the id of the node that shows the run, or of a copy of it.

        The client's id is left out: with it, another client could receive the client's events.
        """
        return {
            "name": "comfyui",
            "version": __version__,
            "prompt_id": self.id,
            "workflow_id": self.workflow_id,
            "node": self.display_id(node),
            "sampler_node": self.display_id(self.node),
        }


def latent_evidence(model: Any) -> Evidence:
    """Facts from a ModelPatcher about its latents."""
    return format_evidence(model.get_model_object("latent_format"))


def format_evidence(latent_format: Any) -> Evidence:
    """Facts from a latent format, or from its class: some packs pass the class."""
    if isinstance(latent_format, type):
        latent_format = latent_format()
    return Evidence(
        host="comfyui",
        format_name=type(latent_format).__name__,
        channels=latent_format.latent_channels,
        dims=latent_format.latent_dimensions,
        scale=getattr(latent_format, "scale_factor", None),
        shift=getattr(latent_format, "shift_factor", None),
        downscale=getattr(latent_format, "spacial_downscale_ratio", None),
        factors=latent_format.latent_rgb_factors,
        bias=latent_format.latent_rgb_factors_bias,
    )


def frame_rate(guider: Any, is_video_batch: bool) -> float | None:
    """Frames per second from the conditioning; None if it has none. LTX and SVD models have it.

    Source: ComfyUI 0.33 `comfy_extras/nodes_lt.py`, `LTXVConditioning`; `comfy_extras/nodes_video_model.py`,
    `SVD_img2vid_Conditioning`.

    Args:
        guider: ComfyUI's `CFGGuider`.
        is_video_batch: whether the batch is one video.
    """
    key = "fps" if is_video_batch else "frame_rate"
    return next((rate for rate in _numbers(guider, key) if 0 < rate <= MAX_SPACE_FPS), None)


def guidance(guider: Any) -> float | None:
    """FLUX's guidance from the conditioning; None if it has none.

    Source: ComfyUI 0.33 `comfy_extras/nodes_flux.py`, `FluxGuidance`.
    """
    return next(_numbers(guider, "guidance"), None)


def _numbers(guider: Any, key: str) -> Iterator[float]:
    """The numbers that the entries of a guider's conditioning have under `key`, those of the positive one first."""
    conds = getattr(guider, "conds", None) or {}
    for group in conds.values():
        for cond in group:
            value = cond.get(key) if isinstance(cond, Mapping) else None
            if isinstance(value, int | float):
                yield float(value)


def noisy_gains(model: Any, sigmas: Tensor) -> list[float]:
    """Factors, one for each sigma, that scale the sampler's noisy latents to the spread of clean latents."""
    sampling = model.get_model_object("model_sampling")
    sigmas = sigmas.detach().float().cpu()
    sigma_data = float(getattr(sampling, "sigma_data", 1.0))
    return (sigma_data * sampling.calculate_input(sigmas, torch.ones_like(sigmas))).tolist()


def sampler_facts(
    prompt: Prompt, guider: Any, sampler: Any, sigmas: Sequence[float], seed: int | None, shape: Sequence[int]
) -> dict[str, Any]:
    """The sampler's facts for `run.json`. `shape` is that of its latents, `[B, C, H, W]` or `[B, C, T, H, W]`."""
    function = getattr(getattr(sampler, "sampler_function", None), "__name__", None)
    return {
        "steps": len(sigmas) - 1,
        "sigmas": [round(sigma, 6) for sigma in sigmas],
        "seed": seed,
        "cfg": getattr(guider, "cfg", None),
        "name": prompt.sampler_input("sampler_name") or (function and function.removeprefix("sample_")),
        "scheduler": prompt.sampler_input("scheduler"),
        "strength": prompt.strength,
        "guidance": guidance(guider),
        "shape": list(shape),
    }
