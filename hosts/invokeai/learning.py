"""Learns from the decodes of InvokeAI's own nodes, if the user switched that on.

The method `invoke` of each node in `DECODE_NODES` is replaced, reversibly and with InvokeAI's own as `__wrapped__`. The
node runs with a copy of its context, which notes the latents and the VAE that the node loads and the image that it
saves. A video is written frame by frame: the function that yields its frames is replaced as well.

With user accounts nothing is learned: the decoders are shared by all accounts, and the saved pairs show their images.
"""

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ...decoders.latents.identify import UNKNOWN, Evidence, identify, new_row
from ...errors import FitError, SafelightError, SpaceError
from ...fitting.encode_images import require_image_latents
from ...fitting.online.update import learn_from_decode
from ...preview.sinks.truth import TruthMeter, vae_pixels
from ..battery import on_battery
from ..known_vaes import KnownVaes
from ..online_learning import IdleWork, OnlineLearner, copy_decode, fingerprint_of, next_training
from ..reversible_patch import ReversiblePatch
from ..vae_encode import vae_encoding
from .decode_nodes import DECODE_NODES, DecodeNode
from .fitting import UNSPECIFIC_BASES
from .graph import nodes_before, vae_after
from .preferences import DECODERS, InvokePreferences, catalogue, is_on
from .quick_decode import base_of
from .x0 import with_batch

VARIABLE = "SAFELIGHT_INVOKEAI_LEARN"
INVOKE = "invoke"  # method of InvokeAI's nodes
LATENTS = "latents"  # input of decode nodes
MAX_WATCHED = 16  # the pictures of a watched run take up to 12 MB

log = logging.getLogger("safelight.invokeai")

# The newest watched runs by the id of their node, as it ran: the VAE's picture says how true their previews were.
WATCHED: "OrderedDict[str, TruthMeter]" = OrderedDict()


@final
class DecodeLearning:
    """Learns from decode nodes while it is installed.

    Args:
        nodes: decode nodes, each with its module and its class.
        root: InvokeAI's root folder.
        is_busy: function that returns whether InvokeAI processes a session.

    Attributes:
        idle_work: what it does while InvokeAI is idle.
        learner: the thread that learns.
    """

    def __init__(self, nodes: Iterable[tuple[DecodeNode, Any, type]], root: Path, is_busy: Callable[[], bool]) -> None:
        self._root = root
        self._patches: list[ReversiblePatch] = []
        for node, module, kind in nodes:
            self._patches.append(ReversiblePatch(kind, INVOKE, partial(self._invoke, node)))
            if node.frames is not None:
                self._patches.append(ReversiblePatch(module, node.frames, _note_frames))
        self.idle_work = IdleWork(
            is_idle=lambda: not is_busy(),
            may_train=self._may_train,
            next_training=lambda: next_training(root / DECODERS, partial(catalogue, root)),
        )
        self.learner = OnlineLearner(idle_work=self.idle_work)

    def apply_settings(self, *, accounts: bool) -> None:
        """Begins or ends to learn, as the user's settings say.

        Args:
            accounts: whether InvokeAI has user accounts.
        """
        learns = is_wanted(self._root)
        if learns and accounts:
            log.warning(
                "nothing is learned from VAE decodes: InvokeAI has user accounts, and what is learned from one "
                "account's images would be used by all of them"
            )
        for patch in self._patches:
            patch.install() if learns and not accounts else patch.remove()
        if learns and not accounts:
            self.learner.start()

    def _may_train(self) -> bool:
        return is_wanted(self._root) and InvokePreferences.of(self._root).learn_idle and not on_battery()

    def _invoke(self, kind: DecodeNode, before: Callable[..., Any], node: Any, context: Any) -> Any:
        notes = DecodeNotes(context)
        token = RUNNING.set(notes)
        try:
            output = before(node, notes.context)
        finally:
            RUNNING.reset(token)
        self._offer(kind, node, context, notes)
        return output

    def _offer(self, kind: DecodeNode, node: Any, context: Any, notes: "DecodeNotes") -> None:
        """Queues a decode for learning. Raises nothing, waits for nothing, changes none of its arguments."""
        try:
            decode = notes.decode()
            self._judge(node, context, decode)
            self._offer_decode(kind, node, context, decode)
        except SafelightError as error:
            self.learner.log_once(str(error))
        except Exception as error:
            self.learner.log_once(f"{type(error).__name__}: {error}", logging.ERROR)
            log.debug("this decode is not used for learning", exc_info=True)

    def _judge(self, node: Any, context: Any, decode: "Decode") -> None:
        """Has the run that made the latents compared with the VAE's picture."""
        runs = (WATCHED.pop(each.id, None) for each in nodes_before(context, node, LATENTS))
        truth = next(filter(None, runs), None)
        if truth is None or truth.image >= len(decode.images):
            return
        pixels = vae_pixels(decode.images[truth.image])

        def judge() -> None:
            truth.judge(pixels)

        self.learner.offer(judge)

    def _offer_decode(self, kind: DecodeNode, node: Any, context: Any, decode: "Decode") -> None:
        decoders, field = catalogue(self._root), node.vae.vae
        latents = with_batch(decode.latents)[:1]  # InvokeAI saves the first image of a batch
        evidence = Evidence(host="invokeai", format_name=_base(kind, node, context), channels=latents.shape[1], dims=2)
        space = identify(evidence, decoders.spaces())
        require_image_latents(space)
        if kind.lacks_norm:
            latents = vae_encoding(decode.vae).to_model_space(decode.vae, space, latents.float())
        latents = space.unpack(latents)
        if kind.frames is not None:
            latents = latents[:, :, :1]
        read, downscale = copy_decode(latents, decode.images, space.causal)
        if space.name == UNKNOWN:
            space = new_row(evidence, decoders.spaces(), downscale=downscale)
        folder, fingerprint = self._root / DECODERS, fingerprint_of(decode.vae)
        store_bytes = InvokePreferences.of(self._root).learn_bytes

        def learn() -> str | None:
            KnownVaes(folder).remember(_vae_key(field), fingerprint)
            return learn_from_decode(
                folder, space, read(), catalogue(self._root), evidence, vae=fingerprint, store_bytes=store_bytes
            )

        self.learner.offer(learn)


def is_wanted(root: Path) -> bool:
    """Whether the user switched it on: with the variable, else with `{"learn": true}` in the settings file.

    Args:
        root: InvokeAI's root folder.
    """
    return is_on(VARIABLE, InvokePreferences.of(root).learn)


def remember_run(node: Any, truth: TruthMeter) -> None:
    """Remembers the run of `node`, a denoise node, until its latents are decoded."""
    WATCHED[node.id] = truth
    while len(WATCHED) > MAX_WATCHED:
        WATCHED.popitem(last=False)


def vae_of_run(context: Any, node: Any, root: Path) -> str | None:
    """The fingerprint of the VAE that will decode the latents of `node`, a denoise node; None if unknown.

    Args:
        context: InvokeAI's `InvocationContext`.
        node: the invocation.
        root: InvokeAI's root folder.
    """
    known = KnownVaes(root / DECODERS)
    if not known.exist:
        return None
    try:
        field = vae_after(context, node, {kind.name for kind in DECODE_NODES})
    except Exception:
        log.debug("the graph could not be read", exc_info=True)
        return None
    return None if field is None else known.find(_vae_key(field))


class Decode(NamedTuple):
    """A decode of InvokeAI: the latents as InvokeAI passes them on, the images `[N, H, W, 3]` in 0..1, the VAE."""

    latents: Tensor
    images: Tensor
    vae: Any


@final
class DecodeNotes:
    """Notes what a decode node loads and saves.

    Args:
        context: InvokeAI's `InvocationContext`.

    Attributes:
        context: a copy of it, for the node.
    """

    def __init__(self, context: Any) -> None:
        self.context = copy.copy(context)
        self.context.tensors, self._latents = _noted(context.tensors, "load")
        self.context.models, self._models = _noted(context.models, "load")
        self.context.images, self._images = _noted(getattr(context, "images", None), "save")
        self.frame: Tensor | None = None  # the first one of a video, [3, 1, H, W] in -1..1

    def decode(self) -> Decode:
        """The decode, when the node has returned.

        Raises:
            FitError: the node loaded or saved something else than a decode node.
        """
        if len(self._latents) != 1 or not self._models:
            raise FitError("expected a node that decodes latents with their VAE: this decode is not used for learning")
        return Decode(self._latents[0].result, self._pictures(), self._models[0].result.model)

    def _pictures(self) -> Tensor:
        if self.frame is not None:
            return (self.frame.float() / 2 + 0.5).clamp(0, 1).movedim(0, -1)
        if len(self._images) != 1:
            raise FitError(
                f"expected a node that saves one image, got {len(self._images)}: it is not used for learning"
            )
        pixels = np.array(self._images[0].argument("image").convert("RGB"))
        return torch.from_numpy(pixels)[None].float() / 255


RUNNING: ContextVar[DecodeNotes | None] = ContextVar("safelight_decode", default=None)


def _note_frames(before: Callable[..., Iterator[Any]], decoded: Tensor) -> Iterator[Any]:
    """Notes the first frame of a video. `decoded`: frames `[3, T, H, W]`."""
    notes = RUNNING.get()
    if notes is not None and notes.frame is None:
        notes.frame = decoded[:, :1].detach().clone()  # not a view: the other frames must not stay in memory
    return before(decoded)


class Call(NamedTuple):
    """A call of a method."""

    result: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def argument(self, name: str) -> Any:
        """Its argument of this name, or its first one."""
        return self.kwargs[name] if name in self.kwargs else self.args[0]


@final
class NotedPart:
    """A part of InvokeAI's context, the calls of one of whose methods are noted.

    Args:
        part: InvokeAI's.
        method: name of the method.
        calls: list that gets the calls.
    """

    def __init__(self, part: Any, method: str, calls: list[Call]) -> None:
        self._part, self._method, self._calls = part, method, calls

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        return partial(self._call, value) if name == self._method else value

    def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        self._calls.append(Call(result, args, kwargs))
        return result


def _noted(part: Any, method: str) -> tuple[NotedPart, list[Call]]:
    calls: list[Call] = []
    return NotedPart(part, method, calls), calls


def _base(kind: DecodeNode, node: Any, context: Any) -> str:
    """The base model of the latents that `node` decodes: of the model that made them, else of the VAE or the node.

    Raises:
        SpaceError: none of them says it.
    """
    before = nodes_before(context, node, LATENTS)
    found = (base_of(getattr(each, "unet", None), getattr(each, "transformer", None)) for each in before)
    base = next(filter(None, found), None)
    if base is None:
        base = str(getattr(node.vae.vae.base, "value", node.vae.vae.base))
        base = kind.base if base in UNSPECIFIC_BASES else base
    if base is None:
        raise SpaceError("latents of no known model and a VAE of no known base: this decode is not used for learning")
    return base


def _vae_key(field: Any) -> str:
    """The key of a VAE, InvokeAI's `ModelIdentifierField`, among the known ones."""
    submodel = getattr(field, "submodel_type", None)
    return f"{field.key} {field.hash} {getattr(submodel, 'value', submodel)}"
