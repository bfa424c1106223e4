"""What decodes have taught of one latent space: sums, pictures held back, the latents that were seen."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ...decoders.decoder import Card, Decoder
from ...decoders.files.decoder_file import build
from ...decoders.files.regular_file import read_regular_file
from ...decoders.files.tensor_file import Tensors, open_tensors, write_tensors
from ...decoders.latents.space import LatentSpace
from ...decoders.latents.space_table import SPACES
from ...errors import DecoderFileError, FitError, SafelightError
from ..least_squares import Form, Sums, digest, expect_pairs, weights
from ..metrics import at_size, psnr_db
from ..pairs import Pairs

FAMILY = "safelight.learned/"
FORMAT = f"{FAMILY}1"
SOURCE = "Safelight: learned while decoding"  # nothing else writes it, and no file without it is touched
MAX_BYTES = 1 << 27
MOST_CHANNELS = 256  # the pictures held back then take 50 MB; at 16, 4 MB

KERNELS = (7, 5, 3, 1)
MOST_FEATURES = 1200  # their products take 12 MB, solving them a tenth of a second
ENOUGH = 10  # latent pixels for each feature
# Of standardised features. To hold weights back is to fit on latents with as much white noise (Bishop 1995,
# https://doi.org/10.1162/neco.1995.7.1.108), here a tenth of their deviation, which a sampler's latents have anyway.
# It needs no pictures to be chosen by. FLUX.2 over 5x5, from 15 pictures: 0.02 dB less on clean latents, 0.1 more at
# flow sigma 0.6, compared with none.
RIDGE = 1e-2

EVERY, SECOND = 4, 1  # of so many decodes that one is held back, counted from 0, so that judging can begin early
MOST_HELD = 24
HELD_SIDE = 64  # latent pixels
MOST_SEEN = 4096
KEY_BYTES = 16

log = logging.getLogger("safelight.fitting")


@dataclass(frozen=True)
class DecodedPair:
    """What one decode teaches.

    Args:
        latents: `[B, C, h, w]`, model space.
        rgb: `[B, 3, h, w]` in 0..1: the pictures, averaged to the latents' size.
    """

    latents: Tensor
    rgb: Tensor


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was found on the pictures held back.

    Args:
        judged_on: tells those pictures from others.
        learned_db: PSNR at latent size of the best that was learned; None where there was too little for any.
        in_use: the decoder that `auto` takes where nothing was learned.
        in_use_db: its PSNR.
    """

    judged_on: str
    learned_db: float | None
    in_use: str
    in_use_db: float


class HeldBackPair(NamedTuple):
    """A pair that is held back, with the key of its latents."""

    key: bytes
    pair: Pairs


@final
class OnlineState:
    """All that is known of one latent space.

    Args:
        space: whose latents these are.

    Raises:
        FitError: it has too many channels.
    """

    def __init__(self, space: LatentSpace) -> None:
        if space.channels > MOST_CHANNELS:
            raise FitError(f"{space.title}: {space.channels:,} channels; more than {MOST_CHANNELS} are not learned")
        self.space = space
        kernel = next(k for k in KERNELS if k * k * space.channels <= MOST_FEATURES)
        # A pixel alone is soon known; its neighbourhood tells more, once there are enough of them.
        self.sums = {k: Sums(Form(channels=space.channels, kernel=k)) for k in {1, kernel}}
        self.held: list[HeldBackPair] = []
        self.decodes = 0  # that taught something, those held back among them
        self.pictures = 0  # in the sums
        self.verdict: Comparison | None = None
        self._seen: dict[bytes, None] = {}  # in the order they came
        self._offered = 0  # pictures to be held back, so far

    @property
    def pixels(self) -> int:
        """Latent pixels in the sums."""
        return self.sums[1].rows

    @property
    def fitted_decodes(self) -> int:
        """Decodes in the sums."""
        return self.decodes - (self.decodes + EVERY - 1 - SECOND) // EVERY

    @property
    def judged_on(self) -> str:
        """The pictures held back, told so that only the very same ones have the same words."""
        digest = hashlib.sha256(b"".join(sorted(held.key for held in self.held)))
        return f"{len(self.held)} of the user's pictures, held back (sha256 {digest.hexdigest()[:8]})"

    @torch.no_grad()
    def add(self, lesson: DecodedPair) -> bool:
        """Takes in a decode; False where all its latents were seen before, which teaches nothing twice.

        All pictures of a decode stay on the same side: they are often of one prompt.

        Raises:
            FitError: they are not pairs of this space, or hold values that are not finite.
        """
        latents, rgb = lesson.latents.float(), lesson.rgb.float().clamp(0, 1)
        expect_pairs(latents, rgb, self.space.channels, 1)
        rounded = latents.half()
        if not torch.isfinite(rounded).all():
            raise FitError("expected latents around 1, got numbers beyond float16")
        known = {*self._seen, *(held.key for held in self.held)}
        fresh = {key: i for i, one in enumerate(rounded) if (key := _key(one)) not in known}
        if not fresh:
            return False
        if self.decodes % EVERY == SECOND:
            for key, i in fresh.items():
                self._hold(key, rounded[i], rgb[i])
        else:
            chosen = list(fresh.values())
            for sums in self.sums.values():
                sums.add(latents[chosen], rgb[chosen])
            self.pictures += len(chosen)
        self.decodes += 1
        self._seen |= dict.fromkeys(fresh)
        for old in list(self._seen)[:-MOST_SEEN]:
            del self._seen[old]
        return True

    def _hold(self, key: bytes, latents: Tensor, rgb: Tensor) -> None:
        """Keeps a fair choice of all pictures so far; the key, which is as good as random, does the drawing.

        Source: Vitter 1985, algorithm R, https://doi.org/10.1145/3147.3165
        """
        self._offered += 1
        draws = [int.from_bytes(key[at : at + 4], "little") for at in range(0, KEY_BYTES, 4)]
        at = len(self.held) if len(self.held) < MOST_HELD else draws[0] % self._offered
        if at >= MOST_HELD:
            return
        tops = [draw % (size - min(size, HELD_SIDE) + 1) for draw, size in zip(draws[1:3], rgb.shape[1:], strict=True)]
        part = (slice(None), *(slice(top, top + HELD_SIDE) for top in tops))
        pixels = rgb[part].mul(255).round().to(torch.uint8)
        self.held[at : at + 1] = [HeldBackPair(key, Pairs(latents[part][None].clone(), pixels[None]))]

    def solutions(self) -> Iterator[Decoder]:
        """What can be learned of it by now."""
        for kernel, sums in self.sums.items():
            if sums.rows < ENOUGH * sums.form.features:
                continue
            try:
                state = weights(sums.solve(RIDGE), sums.form)
            except FitError as error:
                log.debug("%s: %s", self.space.name, error)
                continue
            settings = {"channels": self.space.channels, "degree": 1, "kernel": kernel}
            net = build("polynomial", settings, state)
            card = Card(
                name=decoder_name(self.space.name),
                space=self.space.name,
                kind="polynomial",
                settings=settings,
                channels=net.channels,
                scale=net.scale,
                cost=net.cost,
                latent_space=None if self.space.name in SPACES else self.space,
                source=SOURCE,
                fitted_on=f"{self.fitted_decodes} decodes, {self.pixels:,} latent pixels, learned while decoding",
            )
            yield Decoder(card, net)

    def psnr_db(self, decoder: Decoder) -> float:
        """How truthful a decoder is on the pictures held back, at latent size: the mean over pictures."""
        scores = []
        for _, pair in self.held:
            rgb = decoder.decode(pair.latents.float())
            scores.append(psnr_db(at_size(rgb, *pair.latents.shape[2:]), pair.rgb(1)))
        return round(float(torch.cat(scores).mean()), 4)

    def save(self, path: Path) -> None:
        """Writes all of it as safetensors, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        keys = {"seen": list(self._seen), "held": [held.key for held in self.held]}
        # Left out where there are none yet: safetensors before 0.4.4 cannot read a tensor that holds nothing.
        tensors = {name: _as_bytes(some) for name, some in keys.items() if some}
        for kernel, sums in self.sums.items():
            tensors |= {f"{kernel}.{name}": getattr(sums, name) for name in ("xx", "xy", "yy")}
        for i, (_, pair) in enumerate(self.held):
            tensors |= {f"held.{i}.latents": pair.latents, f"held.{i}.pixels": pair.pixels}
        facts = {
            "space": self.space.facts(),
            "decodes": self.decodes,
            "pictures": self.pictures,
            "offered": self._offered,
            "verdict": self.verdict and asdict(self.verdict),
        }
        told = json.dumps(facts, sort_keys=True)
        write_tensors(path, tensors, {"format": FORMAT, "facts": told, "sha256": digest(told, tensors)})

    @classmethod
    def load(cls, path: Path) -> "OnlineState":
        """Reads what was saved.

        Raises:
            NewerError: a newer version wrote it.
            FitError: it holds something else, or is damaged.
            OSError: it cannot be read.
        """
        try:
            if path.stat().st_size > MAX_BYTES:
                raise FitError(f"{path}: more than {MAX_BYTES:,} bytes; what is learned of a space has less")
            # As bytes: on Windows a file that is mapped into memory could not be replaced.
            metadata, tensors = open_tensors(path, read_regular_file(path, MAX_BYTES))
        except DecoderFileError as error:
            raise FitError(str(error)) from None
        written = metadata.get("format", "")
        if written.startswith(FAMILY) and written != FORMAT:
            raise NewerError(f"{path}: expected format {FORMAT}, got {written!r}: update Safelight")
        try:
            if written != FORMAT or metadata["sha256"] != digest(metadata["facts"], tensors):
                raise ValueError("it is not as it was written")
            return cls._restored(json.loads(metadata["facts"]), tensors)
        except (SafelightError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FitError(f"{path}: not what was learned: {error}") from None

    @classmethod
    def _restored(cls, facts: Mapping[str, Any], tensors: Tensors) -> "OnlineState":
        learned = cls(LatentSpace.from_facts(facts["space"]))
        for kernel, sums in learned.sums.items():
            for name in ("xx", "xy", "yy"):
                if (tensor := tensors[f"{kernel}.{name}"]).shape != getattr(sums, name).shape:
                    raise ValueError(f"{name} has shape {list(tensor.shape)}")
                setattr(sums, name, tensor)
        learned.decodes, learned.pictures = facts["decodes"], facts["pictures"]
        learned.verdict = facts["verdict"] and Comparison(**facts["verdict"])
        learned._offered = facts["offered"]
        learned._seen = dict.fromkeys(_from_bytes(tensors.get("seen")))
        learned.held = [
            HeldBackPair(key, Pairs(tensors[f"held.{i}.latents"], tensors[f"held.{i}.pixels"]))
            for i, key in enumerate(_from_bytes(tensors.get("held")))
        ]
        return learned


class NewerError(FitError):
    """What was learned is in a format that this version does not know; nothing is wrong with it."""


def decoder_name(space: str) -> str:
    """Of the decoder that is learned for the space of this name."""
    return f"{space}-learned"


def _key(rounded: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{list(rounded.shape)}".encode(), digest_size=KEY_BYTES)
    digest.update(rounded.contiguous().cpu().numpy().tobytes())
    return digest.digest()


def _as_bytes(keys: Iterable[bytes]) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, KEY_BYTES)


def _from_bytes(keys: Tensor | None) -> Sequence[bytes]:
    return [bytes(row) for row in keys.tolist()] if keys is not None else []
