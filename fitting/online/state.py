"""Stores what online learning needs for one latent space: sums, test pairs, and the keys of seen latents."""

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
from ..least_squares import PolynomialForm, Sums, check_pairs, content_digest, polynomial_tensors
from ..metrics import psnr_db, resize_rgb
from ..pairs import Pairs

STATE_FAMILY = "safelight.learned/"
STATE_FORMAT = f"{STATE_FAMILY}1"
ONLINE_SOURCE = "Safelight: learned while decoding"  # marks decoder files that online learning may replace or remove
MAX_STATE_BYTES = 1 << 27
MAX_CHANNELS = 256  # the test pairs then take 50 MB; with 16 channels 4 MB

KERNELS = (7, 5, 3, 1)
MAX_ONLINE_FEATURES = 1200  # their products take 12 MB, the solution a tenth of a second
PIXELS_PER_FEATURE = 10  # latent pixels needed for each feature
# A ridge on standardized features equals white noise on the latents (Bishop 1995,
# https://doi.org/10.1162/neco.1995.7.1.108), here a tenth of their deviation. A sampler's latents have such noise
# anyway, so no validation images are needed to choose it. FLUX.2 over 5x5, from 15 images: 0.02 dB less on clean
# latents, 0.1 dB more at flow sigma 0.6, compared with no ridge.
ONLINE_RIDGE = 1e-2

TEST_EVERY, FIRST_TEST = 4, 1  # one of four decodes is for the test; the second decode already, for early comparisons
MAX_TEST_PAIRS = 24
TEST_SIDE = 64  # latent pixels
MAX_SEEN = 4096
LATENTS_KEY_BYTES = 16

log = logging.getLogger("safelight.fitting")


@dataclass(frozen=True)
class DecodedPair:
    """The latents and pictures of one decode.

    Args:
        latents: latents `[B, C, h, w]` in model space.
        rgb: pictures `[B, 3, h, w]` in 0..1, averaged to the latent size.
    """

    latents: Tensor
    rgb: Tensor


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The last comparison on the test pairs.

    Args:
        judged_on: description of the test pairs; other pairs have another description.
        learned_db: PSNR at latent size of the best learned decoder; None if there were too few pixels for one.
        in_use: name of the decoder that `auto` would use without the learned one.
        in_use_db: PSNR of that decoder.
    """

    judged_on: str
    learned_db: float | None
    in_use: str
    in_use_db: float


class HeldBackPair(NamedTuple):
    """A test pair and the key of its latents."""

    key: bytes
    pair: Pairs


@final
class OnlineState:
    """The state of online learning for one latent space.

    Args:
        space: latent space of the decodes.

    Raises:
        FitError: the space has too many channels.
    """

    def __init__(self, space: LatentSpace) -> None:
        if space.channels > MAX_CHANNELS:
            raise FitError(
                f"{space.title}: {space.channels:,} channels; online learning supports at most {MAX_CHANNELS}"
            )
        self.space = space
        kernel = next(k for k in KERNELS if k * k * space.channels <= MAX_ONLINE_FEATURES)
        # A single pixel needs few decodes; its neighborhood is more accurate after more decodes.
        self.sums = {k: Sums(PolynomialForm(channels=space.channels, kernel=k)) for k in {1, kernel}}
        self.test_pairs: list[HeldBackPair] = []
        self.decodes = 0  # decodes with new latents, including those for the test
        self.pictures = 0  # pictures in the sums
        self.comparison: Comparison | None = None
        self._seen: dict[bytes, None] = {}  # oldest first
        self._offered = 0  # pictures considered for the test so far

    @property
    def pixels(self) -> int:
        """Latent pixels in the sums."""
        return self.sums[1].rows

    @property
    def fitted_decodes(self) -> int:
        """Decodes in the sums."""
        return self.decodes - (self.decodes + TEST_EVERY - 1 - FIRST_TEST) // TEST_EVERY

    @property
    def judged_on(self) -> str:
        """Description of the test pairs; only identical pairs have the same one."""
        digest = hashlib.sha256(b"".join(sorted(held.key for held in self.test_pairs)))
        return f"{len(self.test_pairs)} of the user's pictures, held back (sha256 {digest.hexdigest()[:8]})"

    @torch.no_grad()
    def add(self, decoded: DecodedPair) -> bool:
        """Adds a decode. Returns False if all its latents were seen before.

        All pictures of a decode are for training or all for the test: they are often of one prompt.

        Raises:
            FitError: the latents are not of this space, the sizes do not match, or values are not finite.
        """
        latents, rgb = decoded.latents.float(), decoded.rgb.float().clamp(0, 1)
        check_pairs(latents, rgb, self.space.channels, 1)
        rounded = latents.half()
        if not torch.isfinite(rounded).all():
            raise FitError("expected latents around 1, got numbers beyond float16")
        known = {*self._seen, *(held.key for held in self.test_pairs)}
        new = {key: i for i, item in enumerate(rounded) if (key := _latents_key(item)) not in known}
        if not new:
            return False
        if self.decodes % TEST_EVERY == FIRST_TEST:
            for key, i in new.items():
                self._sample_test_pair(key, rounded[i], rgb[i])
        else:
            chosen = list(new.values())
            for sums in self.sums.values():
                sums.add(latents[chosen], rgb[chosen])
            self.pictures += len(chosen)
        self.decodes += 1
        self._seen |= dict.fromkeys(new)
        for old in list(self._seen)[:-MAX_SEEN]:
            del self._seen[old]
        return True

    def _sample_test_pair(self, key: bytes, latents: Tensor, rgb: Tensor) -> None:
        """Adds a test pair by reservoir sampling; the key, a hash, is the source of random numbers.

        Source: Vitter 1985, algorithm R, https://doi.org/10.1145/3147.3165
        """
        self._offered += 1
        draws = [int.from_bytes(key[at : at + 4], "little") for at in range(0, LATENTS_KEY_BYTES, 4)]
        at = len(self.test_pairs) if len(self.test_pairs) < MAX_TEST_PAIRS else draws[0] % self._offered
        if at >= MAX_TEST_PAIRS:
            return
        tops = [draw % (size - min(size, TEST_SIDE) + 1) for draw, size in zip(draws[1:3], rgb.shape[1:], strict=True)]
        part = (slice(None), *(slice(top, top + TEST_SIDE) for top in tops))
        pixels = rgb[part].mul(255).round().to(torch.uint8)
        self.test_pairs[at : at + 1] = [HeldBackPair(key, Pairs(latents[part][None].clone(), pixels[None]))]

    def solve(self) -> Iterator[Decoder]:
        """Solves the sums; yields a decoder for each kernel with enough latent pixels."""
        for kernel, sums in self.sums.items():
            if sums.rows < PIXELS_PER_FEATURE * sums.form.features:
                continue
            try:
                state = polynomial_tensors(sums.solve(ONLINE_RIDGE), sums.form)
            except FitError as error:
                log.debug("%s: %s", self.space.name, error)
                continue
            settings = {"channels": self.space.channels, "degree": 1, "kernel": kernel}
            net = build("polynomial", settings, state)
            card = Card(
                name=online_decoder_name(self.space.name),
                space=self.space.name,
                kind="polynomial",
                settings=settings,
                channels=net.channels,
                scale=net.scale,
                cost=net.cost,
                latent_space=None if self.space.name in SPACES else self.space,
                source=ONLINE_SOURCE,
                fitted_on=f"{self.fitted_decodes} decodes, {self.pixels:,} latent pixels, learned while decoding",
            )
            yield Decoder(card, net)

    def psnr_db(self, decoder: Decoder) -> float:
        """Computes the PSNR of a decoder on the test pairs at latent size, as the mean over pictures."""
        scores = []
        for _, pair in self.test_pairs:
            rgb = decoder.decode(pair.latents.float())
            scores.append(psnr_db(resize_rgb(rgb, *pair.latents.shape[2:]), pair.rgb(1)))
        return round(float(torch.cat(scores).mean()), 4)

    def save(self, path: Path) -> None:
        """Writes the state as safetensors; a failed write leaves the old file.

        Raises:
            OSError: the file cannot be written.
        """
        keys = {"seen": list(self._seen), "held": [held.key for held in self.test_pairs]}
        # Empty tensors are left out: safetensors before 0.4.4 cannot read them.
        tensors = {name: _keys_to_tensor(values) for name, values in keys.items() if values}
        for kernel, sums in self.sums.items():
            tensors |= {f"{kernel}.{name}": getattr(sums, name) for name in ("xx", "xy", "yy")}
        for i, (_, pair) in enumerate(self.test_pairs):
            tensors |= {f"held.{i}.latents": pair.latents, f"held.{i}.pixels": pair.pixels}
        facts = {
            "space": self.space.facts(),
            "decodes": self.decodes,
            "pictures": self.pictures,
            "offered": self._offered,
            "verdict": self.comparison and asdict(self.comparison),
        }
        text = json.dumps(facts, sort_keys=True)
        write_tensors(path, tensors, {"format": STATE_FORMAT, "facts": text, "sha256": content_digest(text, tensors)})

    @classmethod
    def load(cls, path: Path) -> "OnlineState":
        """Reads a saved state.

        Raises:
            NewerStateError: a newer version of Safelight wrote the file.
            FitError: the file is damaged, or of another type.
            OSError: the file cannot be read.
        """
        try:
            if path.stat().st_size > MAX_STATE_BYTES:
                raise FitError(f"{path}: larger than {MAX_STATE_BYTES:,} bytes, the limit of an online learning state")
            # As bytes: Windows cannot replace a file that is mapped into memory.
            metadata, tensors = open_tensors(path, read_regular_file(path, MAX_STATE_BYTES))
        except DecoderFileError as error:
            raise FitError(str(error)) from None
        written = metadata.get("format", "")
        if written.startswith(STATE_FAMILY) and written != STATE_FORMAT:
            raise NewerStateError(f"{path}: expected format {STATE_FORMAT}, got {written!r}: update Safelight")
        try:
            if written != STATE_FORMAT or metadata["sha256"] != content_digest(metadata["facts"], tensors):
                raise ValueError("the content does not match its checksum")
            return cls._restore(json.loads(metadata["facts"]), tensors)
        except (SafelightError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FitError(f"{path}: not an online learning state: {error}") from None

    @classmethod
    def _restore(cls, facts: Mapping[str, Any], tensors: Tensors) -> "OnlineState":
        state = cls(LatentSpace.from_facts(facts["space"]))
        for kernel, sums in state.sums.items():
            for name in ("xx", "xy", "yy"):
                if (tensor := tensors[f"{kernel}.{name}"]).shape != getattr(sums, name).shape:
                    raise ValueError(f"{name} has shape {list(tensor.shape)}")
                setattr(sums, name, tensor)
        state.decodes, state.pictures = facts["decodes"], facts["pictures"]
        state.comparison = facts["verdict"] and Comparison(**facts["verdict"])
        state._offered = facts["offered"]
        state._seen = dict.fromkeys(_tensor_to_keys(tensors.get("seen")))
        state.test_pairs = [
            HeldBackPair(key, Pairs(tensors[f"held.{i}.latents"], tensors[f"held.{i}.pixels"]))
            for i, key in enumerate(_tensor_to_keys(tensors.get("held")))
        ]
        return state


class NewerStateError(FitError):
    """The file is sound, but in the format of a newer version of Safelight."""


def online_decoder_name(space: str) -> str:
    """Name of the decoder that is learned for the latent space of this name."""
    return f"{space}-learned"


def _latents_key(rounded: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{list(rounded.shape)}".encode(), digest_size=LATENTS_KEY_BYTES)
    digest.update(rounded.contiguous().cpu().numpy().tobytes())
    return digest.digest()


def _keys_to_tensor(keys: Iterable[bytes]) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, LATENTS_KEY_BYTES)


def _tensor_to_keys(keys: Tensor | None) -> Sequence[bytes]:
    return [bytes(row) for row in keys.tolist()] if keys is not None else []
