"""Options of `watch`: the options of every run, and the ones that only diffusers has."""

import copy
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ...decoders.catalogue import Candidate, Catalogue
from ...decoders.decoder import Decoder
from ...decoders.files.decoder_file import decoder_of
from ...decoders.files.user_folder import user_folder
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import DecoderFileError, OptionError
from ...preview.decode.memory_budget import DEVICE_BYTES, MB
from ...preview.options import RunOptions, rows
from ...preview.output_folder import absolute_path, expect_no_file
from ...preview.remote.address import checked_address, is_address
from ...preview.remote.scratch import scratch_folder
from ...preview.remote.store import expect_packages
from ...preview.run import Run
from ...preview.sinks.base import NoSink, RunScreen, Sink

ScreenChoice = Literal["auto", "off"]
StrPath = str | PathLike[str]

# Defaults of run options that differ in scripts and notebooks.
DEFAULTS: Mapping[str, Any] = {"filename_prefix": "steps", "max_side_px": 0, "sheet": True, "animation": "webp"}
MINIMUMS = {"memory": 1, "device_mb": 0}


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Options of `watch` and `Previews` that other hosts do not have.

    Args:
        out: folder of runs: every sampler call creates a numbered folder in it. None: no files are written. A relative
            path begins in the folder that is current when the options are created. An address that fsspec can open,
            such as `s3://bucket/runs`: the files are written into a temporary folder, and copied to the address.
        screen: `auto`: the notebook's cell, or the terminal if it shows pictures; `off`; a sink; or a function that
            returns one for each sampler call.
        space: name of the latent space, for a pipeline whose VAE does not reveal it; or a space.
        vae: autoencoder of the latents, for a loop of the user, which has only a scheduler.
        decoder_folder: folder with decoder files, or several. None: the folder that `learn` uses without one.
        memory: number of the newest pictures of a sampler call that stay in `pictures`.
        device_mb: memory of a device that previews may use, in MB; a decoder that needs more is replaced.
        learn: whether a decoder is learned from the images that the pipeline decodes, in the first `decoder_folder`.
        run: options of every run; see `RunOptions`.
        objects: the decoder, if `decoder` is an object such as an `AutoencoderTiny`.

    Raises:
        OptionError: a value is not allowed.
        SinkError: a file is in the place of the folder.
        StoreError: the packages for an address are not installed.
    """

    out: StrPath | None = None
    screen: ScreenChoice | Sink | Callable[[], Sink] = "auto"
    space: str | LatentSpace | None = None
    vae: Any = None
    decoder_folder: StrPath | Sequence[StrPath] | None = None
    memory: int = 100
    device_mb: int = DEVICE_BYTES // MB
    learn: bool = False
    run: RunOptions = RunOptions(**DEFAULTS)  # noqa: RUF009 - frozen
    objects: tuple[Candidate, ...] = ()

    @classmethod
    def of(cls, out: StrPath | None = None, **options: Any) -> "WatchOptions":
        """Builds the options from the arguments of `watch`. `decoder` may be a model, such as an `AutoencoderTiny`.

        Raises:
            TypeError: there is no such option.
            OptionError: a value is not allowed.
        """
        own = {field.name for field in fields(cls)} - {"run", "objects"}
        names = own | {row.name for row in rows()} - {"write_intermediates"}
        for name in options:
            if name not in names:
                nearest = difflib.get_close_matches(name, sorted(names), n=1)
                advice = f"; did you mean {nearest[0]}?" if nearest else ""
                raise TypeError(f"watch() has no option {name!r}{advice}")
        objects: tuple[Candidate, ...] = ()
        if hasattr(model := options.get("decoder"), "state_dict"):
            objects = (_candidate(model),)
            options["decoder"] = objects[0].name
        run = RunOptions.of({**DEFAULTS, **options}, write_intermediates=out is not None)
        return cls(out=out, run=run, objects=objects, **{name: value for name, value in options.items() if name in own})

    def __post_init__(self) -> None:
        if isinstance(self.screen, str) and self.screen not in get_args(ScreenChoice):
            raise OptionError(f"screen: expected auto, off, a sink or a function that returns one, got {self.screen!r}")
        for name, minimum in MINIMUMS.items():
            if getattr(self, name) < minimum:
                raise OptionError(f"{name}: expected at least {minimum}, got {getattr(self, name)}")
        if self.out is not None and not self.run.filename_prefix.strip("/ "):
            raise OptionError("filename_prefix: expected a name such as steps, got an empty name")
        if self.run.keep_latents and self.out is None:
            raise OptionError("keep_latents: expected a folder for the latents; give out= as well")
        # A pipeline or a callback may change the current folder before the first file is written.
        folders = self.decoder_folder
        listed = folders if isinstance(folders, Sequence) and not isinstance(folders, str) else [folders]
        paths = tuple(absolute_path(path) for path in listed if path is not None)
        object.__setattr__(self, "decoder_folder", paths)
        if self.learn and not paths and user_folder() is None:
            raise OptionError("learn: expected a decoder_folder, as there is no home folder for the decoders")
        if isinstance(self.out, str) and is_address(self.out):
            object.__setattr__(self, "out", checked_address(self.out, "out"))
            expect_packages(self.out)
        elif self.out is not None:
            object.__setattr__(self, "out", absolute_path(self.out))
            expect_no_file((Path(self.out) / self.run.filename_prefix).parent, "out")

    @property
    def address(self) -> str:
        """Address of the runs in a store; empty if they are in a folder of this machine, or nowhere."""
        return self.out if isinstance(self.out, str) else ""

    def new_prefix(self) -> Path | None:
        """Path of the folders of sampler calls, without their number; None if no files are written.

        If the runs are in a store, each call of this method creates a temporary folder.
        """
        if self.out is None:
            return None
        return (scratch_folder() if self.address else Path(self.out)) / self.run.filename_prefix

    def device_bytes(self) -> int:
        """How much of a device's memory previews may use, in bytes."""
        return self.device_mb * MB

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders with decoder files; the first one is for what is learned."""
        if self.decoder_folder:
            return cast("tuple[Path, ...]", self.decoder_folder)
        usual = user_folder()
        return (usual,) if usual is not None and (self.learn or usual.is_dir()) else ()

    def catalogue(self) -> Catalogue:
        """The available decoders."""
        return Catalogue(self.folders, self.objects)

    def chosen_space(self, spaces: Spaces) -> LatentSpace | None:
        """The latent space that the user chose; None if the pipeline says it.

        Raises:
            UnknownSpaceError: there is no such latent space.
        """
        return spaces[self.space] if isinstance(self.space, str) else self.space

    def new_screen(self, run: Run, stop: Callable[[], object] | None) -> Sink | None:
        """Returns the screen of a sampler call that begins; None for no screen.

        Args:
            run: run that the screen shows.
            stop: function that ends the sampler early; None if it cannot be stopped.
        """
        match self.screen:
            case "off":
                return None
            case "auto":
                from ...screens.auto import screen_here

                screen = screen_here()
            case Sink() as screen:
                pass
            case create:
                screen = create()
        if isinstance(screen, RunScreen):
            screen.follow(run, stop)
        return None if isinstance(screen, NoSink) else screen


def _candidate(model: Any) -> Candidate:
    """The decoder in a model whose tensors Safelight knows, such as diffusers' `AutoencoderTiny`.

    Raises:
        OptionError: Safelight does not know its tensors.
    """
    name = type(model).__name__
    try:
        decoder = decoder_of(name, model.state_dict())
    except DecoderFileError as error:
        raise OptionError(f"decoder: expected a name, or a small decoder such as AutoencoderTiny. {error}") from None
    card = replace(decoder.card, source=f"an object of the class {name}")
    # Each run has its own: it may move to another device.
    return Candidate(card, lambda: Decoder(card, copy.deepcopy(decoder.net)))
