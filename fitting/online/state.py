"""Stores what online learning needs for one latent space and VAE: sums, test pairs, and the keys of seen latents."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ...decoders.decoder import Card, Decoder
from ...decoders.files.decoder_file import build
from ...decoders.files.regular_file import NotRegularFileError, read_regular_file
from ...decoders.files.tensor_file import Tensors, open_tensors, write_tensors
from ...decoders.latents.space import LatentSpace
from ...decoders.latents.space_table import SPACES
from ...decoders.nets.base import Net
from ...decoders.nets.registry import KINDS
from ...errors import DecoderFileError, FitError, SafelightError, brief
from ..least_squares import OVERALL_RIDGES, PolynomialForm, Sums, check_pairs, content_digest, polynomial_tensors
from ..metrics import psnr_db, resize_rgb
from ..pairs import Pairs

STATE_FAMILY = "safelight.learned/"
STATE_FORMAT = f"{STATE_FAMILY}2"
EARLIER_STATE_FORMAT = f"{STATE_FAMILY}1"  # for all VAEs of a space together
ONLINE_SOURCE = "Safelight: learned while decoding"  # marks decoder files that online learning may replace or remove
MAX_STATE_BYTES = 1 << 27
MAX_CHANNELS = 256  # the test pairs then take 50 MB; with 16 channels 4 MB

KERNELS = (7, 5, 3, 1)
MAX_ONLINE_FEATURES = 1280  # their products take 13 MB, the solution a tenth of a second
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
NAME_DIGITS = 6  # digits of the VAE's fingerprint in a decoder's name
UNKNOWN_VAE = "unknown"
LATENTS_KEY_BYTES = 16
SUMS_TENSORS = ("xx", "xy", "yy")
COUNTS = ("decodes", "pictures", "offered")
MAX_COUNT = 1 << 53

log = logging.getLogger("safelight.fitting")


@dataclass(frozen=True)
class DecodedPair:
    """The latents and pictures of one decode.

    Args:
        latents: latents `[B, C, h, w]` in model space.
        rgb: pictures `[B, 3, h*r, w*r]` in 0..1, averaged to r = 1 or r = 2 times the latent size.
    """

    latents: Tensor
    rgb: Tensor

    @property
    def scale(self) -> int:
        """Pixels of `rgb` per latent pixel, along one side."""
        return max(1, self.rgb.shape[-1] // max(1, self.latents.shape[-1]))


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


class Solution(NamedTuple):
    """A solution of the sums.

    Args:
        judged: decoder from the training sums only, which the test pairs can judge.
        decoder: decoder from all sums.
    """

    judged: Decoder
    decoder: Decoder


@final
class OnlineState:
    """The state of online learning for one latent space and VAE.

    Args:
        space: latent space of the decodes.
        vae: fingerprint of the VAE; empty if unknown.

    Raises:
        FitError: the space has too many channels.
    """

    def __init__(self, space: LatentSpace, vae: str = "") -> None:
        if space.channels > MAX_CHANNELS:
            raise FitError(
                f"{space.title}: {space.channels:,} channels; online learning supports at most {MAX_CHANNELS}"
            )
        self.space, self.vae = space, vae
        kernel = next(k for k in KERNELS if (k * k + 1) * space.channels <= MAX_ONLINE_FEATURES or k == 1)
        # A single pixel needs few decodes; its neighborhood is more accurate after more decodes.
        forms = {k: PolynomialForm(channels=space.channels, kernel=k, overall=True) for k in (1, kernel)}
        self.sums = {k: Sums(form) for k, form in forms.items()}
        self.test_sums = {k: Sums(form) for k, form in forms.items()}  # of all decodes for the test
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
    def judged_on(self) -> str:
        """Description of the test pairs; only identical pairs have the same one."""
        digest = hashlib.sha256(b"".join(sorted(held.key for held in self.test_pairs)))
        return f"{len(self.test_pairs)} of the user's pictures, held back (sha256 {digest.hexdigest()[:8]})"

    @torch.no_grad()
    def add(self, decoded: DecodedPair) -> dict[bytes, Pairs] | None:
        """Adds a decode.

        All pictures of a decode are for training or all for the test: they are often of one prompt.

        Returns:
            The pairs for training, by the key of their latents; empty if the decode is for the test. None if all its
            latents were seen before.

        Raises:
            FitError: the latents are not of this space, the sizes do not match, or values are not finite.
        """
        latents, rgb = decoded.latents.float(), decoded.rgb.float()
        check_pairs(latents, rgb, self.space.channels, decoded.scale)
        rgb = rgb.clamp(0, 1)
        rounded = latents.half()
        if not torch.isfinite(rounded).all():
            raise FitError("expected latents around 1, got numbers beyond float16")
        known = {*self._seen, *(held.key for held in self.test_pairs)}
        new = {key: i for i, item in enumerate(rounded) if (key := _latents_key(item)) not in known}
        if not new:
            return None
        for_test = self.decodes % TEST_EVERY == FIRST_TEST
        chosen = list(new.values())
        for sums in (self.test_sums if for_test else self.sums).values():
            sums.add(latents[chosen], F.avg_pool2d(rgb[chosen], decoded.scale))
        pixels = rgb.mul(255).round().to(torch.uint8)
        training = dict[bytes, Pairs]()
        if for_test:
            for key, i in new.items():
                self._sample_test_pair(key, rounded[i], pixels[i])
        else:
            training = {key: Pairs(rounded[i : i + 1].clone(), pixels[i : i + 1].clone()) for key, i in new.items()}
            self.pictures += len(chosen)
        self.decodes += 1
        self._seen |= dict.fromkeys(new)
        for old in list(self._seen)[:-MAX_SEEN]:
            del self._seen[old]
        return training

    @torch.no_grad()
    def restore(self, pairs: Iterable[Pairs]) -> None:
        """Adds saved training pairs to a new state, if the old one was lost.

        Args:
            pairs: pairs that `add` returned, one picture each.
        """
        for pair in pairs:
            for sums in self.sums.values():
                sums.add(pair.latents.float(), pair.rgb(1))
            self._seen[_latents_key(pair.latents[0])] = None
            self.pictures += 1
            self.decodes += 1

    def _sample_test_pair(self, key: bytes, latents: Tensor, pixels: Tensor) -> None:
        """Adds a test pair by reservoir sampling; the key, a hash, is the source of random numbers.

        Source: Vitter 1985, algorithm R, https://doi.org/10.1145/3147.3165
        """
        self._offered += 1
        draws = [int.from_bytes(key[at : at + 4], "little") for at in range(0, LATENTS_KEY_BYTES, 4)]
        at = len(self.test_pairs) if len(self.test_pairs) < MAX_TEST_PAIRS else draws[0] % self._offered
        if at >= MAX_TEST_PAIRS:
            return
        scale = pixels.shape[1] // latents.shape[1]
        sizes = latents.shape[1:]
        tops = [draw % (size - min(size, TEST_SIDE) + 1) for draw, size in zip(draws[1:3], sizes, strict=True)]
        part = (slice(None), *(slice(top, top + TEST_SIDE) for top in tops))
        of_pixels = (slice(None), *(slice(top * scale, (top + TEST_SIDE) * scale) for top in tops))
        self.test_pairs[at : at + 1] = [
            HeldBackPair(key, Pairs(latents[part][None].clone(), pixels[of_pixels][None].clone()))
        ]

    def solve(self) -> Iterator[Solution]:
        """Solves the sums; yields a solution for each kernel with enough latent pixels."""
        for kernel, sums in self.sums.items():
            if sums.rows < PIXELS_PER_FEATURE * sums.form.local:
                continue
            test_sums = self.test_sums[kernel]
            try:
                overall = min(OVERALL_RIDGES, key=lambda ridge: test_sums.mse(sums.solve(ONLINE_RIDGE, ridge)))
                judged, whole = (part.solve(ONLINE_RIDGE, overall) for part in (sums, sums + test_sums))
            except FitError as error:
                log.debug("%s: %s", self.space.name, error)
                continue
            settings = {"channels": self.space.channels, "degree": 1, "kernel": kernel, "overall": True}
            nets = (build("polynomial", settings, polynomial_tensors(solved, sums.form)) for solved in (judged, whole))
            yield Solution(*(self.decoder_of(net, settings) for net in nets))

    def decoder_of(self, net: Net, settings: Mapping[str, Any]) -> Decoder:
        """Returns a learned net with its card."""
        card = Card(
            name=online_decoder_name(self.space.name, self.vae),
            space=self.space.name,
            kind=next(kind for kind, of in KINDS.items() if type(net) is of),
            settings=settings,
            channels=net.channels,
            scale=net.scale,
            cost=net.cost,
            latent_space=None if self.space.name in SPACES else self.space,
            source=ONLINE_SOURCE,
            vae=self.vae,  # also if unknown: None would mean each VAE of the space
            fitted_on=f"{self.decodes} decodes, {self.pixels:,} latent pixels, learned while decoding",
        )
        return Decoder(card, net)

    def _named_sums(self) -> Iterator[tuple[str, Sums]]:
        for name, all_sums in (("train", self.sums), ("test", self.test_sums)):
            for kernel, sums in all_sums.items():
                yield f"{name}.{kernel}", sums

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
        for prefix, sums in self._named_sums():
            tensors |= {f"{prefix}.{name}": getattr(sums, name) for name in SUMS_TENSORS}
        for i, (_, pair) in enumerate(self.test_pairs):
            tensors |= {f"held.{i}.latents": pair.latents, f"held.{i}.pixels": pair.pixels}
        facts = {
            "space": self.space.facts(),
            "vae": self.vae,
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
        except NotRegularFileError as error:
            raise FitError(f"{path}: {error.strerror}") from None
        written = metadata.get("format", "")
        if written == EARLIER_STATE_FORMAT:
            raise FitError(
                f"{path}: from an earlier Safelight, which mixed the VAEs of a space; it is not used any more"
            )
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
        state = cls(LatentSpace.from_facts(facts["space"]), str(facts["vae"]))
        for prefix, sums in state._named_sums():
            for name in SUMS_TENSORS:
                tensor, empty = tensors[f"{prefix}.{name}"], getattr(sums, name)
                if tensor.shape != empty.shape or tensor.dtype != empty.dtype or not torch.isfinite(tensor).all():
                    raise ValueError(f"{name} is no sum: shape {list(tensor.shape)}, {tensor.dtype}, or not finite")
                setattr(sums, name, tensor)
        state.decodes, state.pictures, state._offered = (_count(facts[key]) for key in COUNTS)
        state.comparison = _comparison(facts["verdict"])
        state._seen = dict.fromkeys(_tensor_to_keys(tensors.get("seen")))
        state.test_pairs = [
            HeldBackPair(key, Pairs(tensors[f"held.{i}.latents"], tensors[f"held.{i}.pixels"]))
            for i, key in enumerate(_tensor_to_keys(tensors.get("held")))
        ]
        if any(len(pair) != 1 or pair.channels != state.space.channels for _, pair in state.test_pairs):
            raise ValueError("a test pair has several pictures, or other channels")
        return state


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"expected a count, got {brief(value)}")
    return value


def _comparison(facts: Any) -> Comparison | None:
    if not facts:
        return None
    found = Comparison(**facts)
    texts, numbers = (found.judged_on, found.in_use), (found.in_use_db, found.learned_db or 0.0)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(db, float | int) for db in numbers):
        raise ValueError("the last comparison has values of other types")
    return found


class NewerStateError(FitError):
    """The file is sound, but in the format of a newer version of Safelight."""


def online_decoder_name(space: str, vae: str = "") -> str:
    """Name of the decoder that is learned for a latent space and a VAE."""
    return f"{space}-learned-{vae[:NAME_DIGITS] or UNKNOWN_VAE}"


def _latents_key(rounded: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{list(rounded.shape)}".encode(), digest_size=LATENTS_KEY_BYTES)
    digest.update(rounded.contiguous().cpu().numpy().tobytes())
    return digest.digest()


def _keys_to_tensor(keys: Iterable[bytes]) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, LATENTS_KEY_BYTES)


def _tensor_to_keys(keys: Tensor | None) -> Sequence[bytes]:
    if keys is None:
        return []
    if keys.dtype != torch.uint8 or keys.ndim != 2 or keys.shape[1] != LATENTS_KEY_BYTES:
        raise ValueError(f"expected keys of {LATENTS_KEY_BYTES} bytes, got {list(keys.shape)} {keys.dtype}")
    return [bytes(row) for row in keys.tolist()]
