"""Finds the run whose result ComfyUI took from its cache. Then nothing is sampled, and no sampler sends an event."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from server import PromptServer

from ...preview.sinks.live_runs import LiveRun, LiveRuns
from .facts import Prompt
from .graph import mapping, signature

SENT, EXTRA = 2, 3  # positions in a prompt of ComfyUI's history


@final
@dataclass(frozen=True)
class CachedRuns:
    """The live runs by what was sampled.

    Args:
        runs: all live runs.
    """

    runs: LiveRuns

    def find(self, owner: str, prompt_id: str, workflow: str | None, node: str) -> LiveRun | None:
        """The newest run with the same sampler and the same inputs as in a prompt; None if there is none.

        Args:
            owner: text that stands for the browser that asks, see `owners.py`.
            prompt_id: prompt that has ended.
            workflow: id of the workflow that the browser expects the prompt to be of.
            node: id of the node that shows the runs.
        """
        prompt = _ended_prompt(prompt_id)
        if prompt is None or prompt.workflow_id != workflow:
            return None
        wanted: dict[str, str] = {}  # signatures of samplers in the prompt, by id
        for live in self.runs.of(owner, node=node):
            sampler = live.folder.run.host.get("sampler_node")
            if not isinstance(sampler, str) or sampler not in prompt.sent or sampler not in live.export.sent:
                continue
            if sampler not in wanted:
                wanted[sampler] = signature(prompt.sent, sampler)
            if signature(live.export.sent, sampler) == wanted[sampler]:
                return live
        return None


def _ended_prompt(prompt_id: str) -> Prompt | None:
    """Source: ComfyUI 0.33 `execution.py`, `PromptQueue.get_history`."""
    entry = PromptServer.instance.prompt_queue.get_history(prompt_id).get(prompt_id)
    if entry is None:
        return None
    sent, extra = entry["prompt"][SENT], mapping(entry["prompt"][EXTRA])
    workflow: Mapping[str, Any] = mapping(mapping(extra.get("extra_pnginfo")).get("workflow"))
    return Prompt(id=prompt_id, sent=sent, workflow=workflow or None)
