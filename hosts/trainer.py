"""Records the validations of a training: the same prompt and seed, step by step of the training.

    record = TrainingRecord("runs/my-lora", space="flux1", total_steps=4000)
    ...
    record.sampled(step=500, prompt="a lighthouse", seed=0, latents=latents)

Each prompt and seed is a run whose steps are those of the training, so the viewer scrubs along the training and
compares two prompts, two seeds or two trainings at the same step.
"""

import difflib
import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch

from ..decoders.catalogue import Catalogue
from ..decoders.files.user_folder import user_folder
from ..decoders.latents.identify import UNKNOWN
from ..decoders.latents.space import LatentSpace
from ..decoders.latents.tokens import ImageSize
from ..errors import OptionError, SafelightError, describe
from ..preview.options import RunOptions, rows
from ..preview.output_folder import absolute_path, expect_no_file
from ..preview.remote.address import is_address
from ..preview.run import FULL
from ..preview.start import Outputs, start
from ..preview.step import Step, step_number
from .diffusers.facts import evidence_of, space_or_unknown
from .diffusers.own_loop import OwnLoop
from .diffusers.pipeline_families import DEFAULT_FAMILY
from .main_process import is_main_process
from .offered_latents import LatentReader
from .training_series import Series, SeriesPictures, open_series

TRAINING_DEFAULTS: Mapping[str, Any] = {"max_side_px": 0, "sheet": True, "animation": "webp"}
# Options of other hosts that make no sense here: every validation is shown, in a folder that is named by its prompt,
# and no picture ends a training.
NOT_HERE = (
    *("write_intermediates", "filename_prefix", "every_n_steps", "min_interval_s", "full_every_n_steps", "show"),
    *("stop_below_percent", "stop_after_steps"),
)

log = logging.getLogger("safelight.trainer")


@final
class TrainingRecord:
    """Records validations of a training in a folder, with a run for each prompt and seed.

    Of several processes, as accelerate and torchrun start them, only the one with rank 0 writes. It waits for no other
    process. A later process with the same folder continues the record; a step that it samples again replaces the
    earlier picture.

    Args:
        out: folder of the training.
        space: latent space of the latents, or its name; None if `vae` says it.
        vae: autoencoder of diffusers that decodes the latents, to identify the space.
        total_steps: number of steps of the training; None if unknown.
        size: width and height of the validation images, in pixels, for latents that are tokens `[B, N, C]`.
        decoder_folder: folder with decoder files; None for the folder of scripts.
        options: fields of `RunOptions`, such as `decoder`, `file_format`, `batch`, `sheet` or `animation`.

    Raises:
        TypeError: there is no such option.
        OptionError: an option has a value that is not allowed, or the latent space is unknown.
        UnknownSpaceError: there is no such latent space.
        UnknownDecoderError: there is no such decoder for the latent space.
        SinkError: a file is in the place of the folder.
    """

    def __init__(
        self,
        out: str | Path,
        space: str | LatentSpace | None = None,
        *,
        vae: Any = None,
        total_steps: int | None = None,
        size: ImageSize | None = None,
        decoder_folder: str | Path | None = None,
        **options: Any,
    ) -> None:
        if isinstance(out, str) and is_address(out):
            raise OptionError(
                "out: expected a folder of this machine, because a later process continues the record; "
                "got an address. Copy the folder to the store when the training has ended"
            )
        self._out = absolute_path(out)
        expect_no_file(self._out, "out")
        self._options = _options(options)
        folder = user_folder() if decoder_folder is None else absolute_path(decoder_folder)
        self._catalogue = Catalogue([] if folder is None or not folder.is_dir() else [folder])
        self._space = _space(space, vae, self._catalogue)
        self._catalogue.candidates(self._space, self._options.decoder)
        self._total = None if total_steps is None else step_number(total_steps)
        self._reader = LatentReader(self._space, size)
        self._writing = threading.Lock()

    def __repr__(self) -> str:
        return f"<TrainingRecord {self._out}>"

    # A compiled validation loop calls it as it is.
    @torch.compiler.disable
    def sampled(
        self,
        *,
        step: int,
        latents: Any,
        prompt: str | None = None,
        seed: int | None = None,
        name: str = "",
        channels_last: bool = False,
        sampler: Mapping[str, Any] | None = None,
    ) -> Path | None:
        """Records a validation, and waits until its files are written.

        It never ends a training: what is wrong becomes a warning of the logger `safelight.trainer`.

        Args:
            step: step of the training.
            latents: finished latents in model space, as the sampler returns them and before they are scaled for the
                VAE: `[B, C, H, W]`, `[B, C, T, H, W]`, tokens `[B, N, C]`, or one of these without `B`. A tensor, or an
                array of NumPy, JAX, MLX or any package with DLPack.
            prompt: prompt of the picture.
            seed: seed of the noise.
            name: name of the run's folder; empty for one that is made of the prompt and the seed.
            channels_last: whether the channels are the last axis of the latents.
            sampler: further facts for `run.json`, such as `cfg`.

        Returns:
            The folder of the run; None in a process that does not write, or if the validation could not be recorded.
        """
        try:
            if not is_main_process():
                return None
            with self._writing:
                return self._record(step, latents, Series(prompt=prompt, seed=seed, name=name), channels_last, sampler)
        except SafelightError as error:
            log.warning("the validation at step %s is not recorded: %s", step, error)
        except Exception as error:  # must not end the training
            log.warning("the validation at step %s is not recorded: %s", step, describe(error))
            log.debug("validation not recorded", exc_info=True)
        return None

    def _record(
        self, step: int, latents: Any, series: Series, channels_last: bool, sampler: Mapping[str, Any] | None
    ) -> Path:
        index = step_number(step)
        tensor = self._reader.read(latents, channels_last=channels_last)
        folder = open_series(self._out, series, self._space.name, {**(sampler or {}), "steps": self._total})
        run, options = folder.run, self._options
        pictures = SeriesPictures(folder, options)
        pipeline = start(
            run,
            self._space,
            replace(options, sheet=False, animation="off"),
            Outputs(folder=folder, savers=[pictures]),
            candidates=partial(
                self._catalogue.candidates_or_auto,
                self._space,
                options.decoder,
                accelerated=tensor.device.type != "cpu",
                notify=run.note,
            ),
            shape=tensor.shape,
            device=tensor.device,
        )
        try:
            pipeline.offer(Step(index=index, total=max(index, self._total or 0), denoised=tensor))
        finally:
            pipeline.close("finished")
        return folder.path


def _options(options: Mapping[str, Any]) -> RunOptions:
    names = {row.name for row in rows()} - set(NOT_HERE)
    for name in options:
        if name not in names:
            nearest = difflib.get_close_matches(name, sorted(names), n=1)
            advice = f"; did you mean {nearest[0]}?" if nearest else ""
            raise TypeError(f"TrainingRecord has no option {name!r}{advice}")
    if options.get("decoder") == FULL:
        raise OptionError("decoder: expected auto or a decoder, got full; decode with the VAE in your own validation")
    return RunOptions.of({**TRAINING_DEFAULTS, **options}, write_intermediates=True)


def _space(space: str | LatentSpace | None, vae: Any, catalogue: Catalogue) -> LatentSpace:
    spaces = catalogue.spaces()
    if space is not None:
        return spaces[space] if isinstance(space, str) else space
    if vae is None:
        raise OptionError('space: expected a latent space such as space="flux1", or the VAE as vae=, got neither')
    loop = OwnLoop(None, vae)
    found, reason = space_or_unknown(loop, DEFAULT_FAMILY, evidence_of(loop, spaces), spaces)
    if found.name == UNKNOWN:
        raise OptionError(f"vae: the latent space of {type(vae).__name__} is unknown: {reason}")
    return found
