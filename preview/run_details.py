"""What a library knows of a run besides its summary: what people search for, and which files the run has."""

from collections.abc import Callable, Mapping
from typing import Any

from .file_names import is_file_name

MAX_PROMPT_CHARS, MAX_NAME_CHARS = 600, 200
# Names of the texts that a host can open as a workflow, best first: ComfyUI's workflow, InvokeAI's, ComfyUI's prompt.
WORKFLOW_TEXTS = ("workflow", "invokeai_workflow", "prompt")
PRODUCTS = ("page", "sheet", "animation")  # files about the whole run

# The prompt of a run by the texts of its newest picture and the id of the sampler's node.
FindPrompt = Callable[[Mapping[str, str], str | None], str | None]


def run_details(manifest: Mapping[str, Any], texts: Mapping[str, str], find_prompt: FindPrompt) -> dict[str, Any]:
    """The details of a run for a library. Texts are cut off where they are long.

    Args:
        manifest: validated manifest.
        texts: texts in the newest picture, from `picture_texts`.
        find_prompt: function that finds the prompt in them, if the manifest has none.
    """
    sampler, node = manifest["sampler"], manifest["host"]["sampler_node"]
    prompt = sampler.get("prompt")
    model = sampler.get("model")
    return checked_details(
        {
            "prompt": prompt
            if isinstance(prompt, str)
            else find_prompt(texts, node if isinstance(node, str) else None),
            "model": model.get("name") if isinstance(model, dict) else None,
            "host": manifest["host"]["name"],
            "files": sum(len(step["files"]) for step in manifest["steps"]),
            "workflow": any(name in texts for name in WORKFLOW_TEXTS),
            **{name: manifest.get(name) for name in PRODUCTS},
        }
    )


def checked_details(found: Mapping[str, Any]) -> dict[str, Any]:
    """Details with the right types and lengths, whatever is in `found`."""
    files = found.get("files")
    return {
        "prompt": _text(found.get("prompt"), MAX_PROMPT_CHARS),
        "model": _text(found.get("model"), MAX_NAME_CHARS),
        "host": _text(found.get("host"), MAX_NAME_CHARS),
        "files": files if type(files) is int and files >= 0 else 0,
        "workflow": found.get("workflow") is True,
        **{name: _file(found.get(name)) for name in PRODUCTS},
    }


def _text(value: Any, most: int) -> str | None:
    return value[:most] if isinstance(value, str) else None


def _file(value: Any) -> str | None:
    return value if isinstance(value, str) and is_file_name(value) else None
