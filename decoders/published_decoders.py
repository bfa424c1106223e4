"""Decoders that others publish: where each file is, and git's id of its content.

The id belongs to the commit, so another file at the address is noticed. Files are downloaded only on request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..errors import UnknownDecoderError, brief
from .catalogue import Catalogue
from .latents.space import LatentSpace

TAESD, TAEHV = "madebyollin/taesd", "madebyollin/taehv"
COMMITS = {TAESD: "5cccb12dc72074a4be35680c3b108548a7c69978", TAEHV: "1f14a568f24bf8811e0a0ac601613e04fc1581e8"}
HALF, FULL_PRECISION = 2, 4  # bytes of a number
ENCODER_PARAMETERS = 1_500_000  # beside the decoder in each file of TAEHV, about


@dataclass(frozen=True, kw_only=True)
class PublishedDecoder:
    """A decoder file of another project.

    Args:
        name: short name, for the command line.
        space: latent space that it was published for.
        repository: owner and name on GitHub.
        path: path of the file in it.
        blob: git's id of its content.
        parameters: numbers in the file, about.
        number_bytes: smallest and largest possible bytes of a number.
        licence: SPDX name.
        measured: its scores in dB on the pictures of `weights/README.md`, in the form of a card's `metrics`.
    """

    name: str
    space: str
    repository: str
    path: str
    blob: str
    parameters: int
    number_bytes: tuple[int, int]
    licence: str = "MIT"
    measured: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def place(self) -> str:
        """Path of the file below a server of raw files: repository, commit, path."""
        return f"{self.repository}/{COMMITS[self.repository]}/{self.path}"

    @property
    def size_text(self) -> str:
        """The size of the file in words, about."""
        least, most = (
            f"{self.parameters * count / 1e6:.{int(count * self.parameters < 1e7)}f}" for count in self.number_bytes
        )
        return f"{most} MB" if least == most else f"{least} to {most} MB"


def _image(name: str, space: str, blob: str, parameters: int, size: int, **scores: float) -> PublishedDecoder:
    return PublishedDecoder(
        name=name,
        space=space,
        repository=TAESD,
        path=f"{name}_decoder.pth",
        blob=blob,
        parameters=parameters,
        number_bytes=(size, size),
        measured=scores,
    )


def _video(name: str, space: str, blob: str, parameters: int = 9_900_000) -> PublishedDecoder:
    return PublishedDecoder(
        name=name,
        space=space,
        repository=TAEHV,
        path=f"safetensors/{name}.safetensors",
        blob=blob,
        parameters=parameters + ENCODER_PARAMETERS,
        number_bytes=(HALF, FULL_PRECISION),
    )


PUBLISHED_DECODERS: Mapping[str, PublishedDecoder] = {
    decoder.name: decoder
    for decoder in (
        _image("taesd", "sd1", "5915a429fc08eba4adf62bf74f96705b8b0d5c1f", 1_222_531, FULL_PRECISION),
        _image("taesdxl", "sdxl", "477bc7e9604f418029508e72ac8719bb9d048291", 1_222_531, FULL_PRECISION),
        _image("taesd3", "sd3", "7943be72a9151d0b330c5d8a4fbb885d889b60a1", 1_229_443, FULL_PRECISION),
        _image("taef1", "flux1", "b772c9c4e6d3b79d06b277be59296389591783d3", 1_229_443, FULL_PRECISION),
        _image(
            *("taef2", "flux2", "f4da1ec48cb805b5ee8deb22cfad03f48fe52f64", 1_338_499, HALF),
            psnr_latent_db=38.8,
            psnr_full_db=28.0,
        ),
        _image("taesana", "sana", "aa645f9d0a0a1c6b5ed1fc5b446e764af4843a9f", 8_301_763, HALF),
        _video("taew2_1", "wan21", "ec1a2be453a250aa406e912bb630c34463ba0b2f"),
        _video("taew2_2", "wan22", "9d0ef19504c0b918eb6a8efea1ed8596cf666400"),
        _video("taew2_2_super", "wan22", "f13f912d19f81eb742ba784a04d1cc228e1ce287", 4_900_000),
        _video("taehv", "hunyuan_video", "373253e5f877b3f6474a7ec874e5559f40381246"),
        _video("taehv1_5", "hunyuan_video15", "ede3340b89ae7c58c3e203d1872b8c595c604169"),
        _video("taehv1_5_super", "hunyuan_video15", "28a4a5a7aca3f3e0416082d1c400d206a0478377", 4_900_000),
        _video("taecvx", "cogvideox", "64e2fd755c9356db4c5c1e24d4a67135640a1085"),
        _video("taeltx_2", "ltx2", "a3b56beaa4c3d5478cdcb78d984e65b2ad44bffa", 10_200_000),
        _video("taeltx2_3", "ltx2", "9553c906cd3d2a1deb85574d5236d256d795aa50", 10_200_000),
        _video("taeh3", "minimax_h3", "9eff5f6da1f0baa60ede7f097507119b1488219f"),
    )
}


def better_decoder(catalogue: Catalogue, space: LatentSpace) -> PublishedDecoder | None:
    """Returns a published decoder of `space` that is better than the shipped ones; None if the user has a decoder."""
    shipped = {candidate.name for candidate in Catalogue().of(space)}
    if any(candidate.name not in shipped for candidate in catalogue.of(space)):
        return None
    return next((decoder for decoder in PUBLISHED_DECODERS.values() if decoder.space == space.name), None)


def published_decoder(name: str) -> PublishedDecoder:
    """Returns the published decoder of this name.

    Raises:
        UnknownDecoderError: no published decoder has this name.
    """
    found = PUBLISHED_DECODERS.get(name.strip().lower())
    if found is None:
        known = ", ".join(PUBLISHED_DECODERS)
        raise UnknownDecoderError(f"no published decoder is named {brief(name)}; there are: {known}")
    return found
