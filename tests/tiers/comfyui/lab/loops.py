"""A loop by node expansion: each turn after the first is a copy of the nodes between the two ends.

Source: ComfyUI 0.33 `tests/execution/testing_nodes/testing-pack/flow_control.py`.
"""

from comfy_execution.graph_utils import GraphBuilder, is_link


class LabLoopOpen:
    """The begin of a turn: its index, from 0, a seed that grows with it, and the LATENT that enters it."""

    RETURN_TYPES = ("LAB_LOOP", "INT", "INT", "LATENT")
    FUNCTION, CATEGORY = "open", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"turn": ("INT", {"default": 0}), "seed": ("INT", {"default": 0}), "samples": ("LATENT",)}}

    def open(self, turn, seed, samples):
        return "loop", turn, seed + turn, samples


class LabLoopClose:
    """The end of a turn: begins the next one, or gives the LATENT of the last."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION, CATEGORY = "close", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {
            "required": {
                "loop": ("LAB_LOOP", {"rawLink": True}),
                "samples": ("LATENT",),
                "turn": ("INT", {}),
                "turns": ("INT", {}),
            },
            "hidden": {"dynprompt": "DYNPROMPT", "unique_id": "UNIQUE_ID"},
        }

    def close(self, loop, samples, turn, turns, dynprompt, unique_id):
        if turn + 1 >= turns:
            return (samples,)
        readers = {}  # by node: the nodes that use its outputs, of all that the end of the turn depends on
        self.find_readers(unique_id, dynprompt, readers)
        copied = {unique_id, loop[0]} | self.behind(loop[0], readers)
        graph = GraphBuilder()
        for node in copied:
            copy = graph.node(dynprompt.get_node(node)["class_type"], "again" if node == unique_id else node)
            copy.set_override_display_id(node)
        for node in copied:
            copy = graph.lookup_node("again" if node == unique_id else node)
            for name, value in dynprompt.get_node(node)["inputs"].items():
                inside = is_link(value) and value[0] in copied
                copy.set_input(name, graph.lookup_node(value[0]).out(value[1]) if inside else value)
        opened = graph.lookup_node(loop[0])
        opened.set_input("turn", turn + 1)
        opened.set_input("samples", samples)
        return {"result": (graph.lookup_node("again").out(0),), "expand": graph.finalize()}

    def find_readers(self, node, dynprompt, readers):
        for value in dynprompt.get_node(node)["inputs"].values():
            if is_link(value):
                is_new = value[0] not in readers
                readers.setdefault(value[0], []).append(node)
                if is_new:
                    self.find_readers(value[0], dynprompt, readers)

    def behind(self, node, readers):
        found = set()
        for reader in readers.get(node, ()):
            if reader not in found:
                found |= {reader} | self.behind(reader, readers)
        return found


class LabTurnModel:
    """Passes a copy of a MODEL on that differs in each turn, as a LoRA whose strength depends on the turn."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "copy", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"model": ("MODEL",), "turn": ("INT", {})}}

    def copy(self, model, turn):
        return (model.clone(),)
