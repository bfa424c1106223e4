"""Saves the sums of a closed form, to continue a fit in later sessions or to add those of several machines."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

from ..decoders.files.tensor_file import SAFETENSORS_SUFFIXES
from ..errors import FitError
from .image_ids import known_ids, union_of_known
from .least_squares import PolynomialForm, Sums
from .pairs import Pairs
from .presets import PRESETS

IMAGE_KEY_BYTES = 16
TRAINING = "training"


@dataclass(frozen=True, kw_only=True)
class FitStatistics:
    """The sums of all images that a closed form was fitted on, without the images.

    Validation and test images are not included: each session can use the same ones.

    Args:
        kind: preset name of a closed form.
        space: name of the latent space.
        sums: sums of the images; None before the first session.
        count: number of sessions.
        seen: keys of the images in hexadecimal, so that no image is counted twice or used for validation or test.
        image_ids: ids of the images that the crops are of; None if some are unknown.

    Raises:
        FitError: the preset is trained, and a training needs the images.
    """

    kind: str
    space: str
    sums: Sums | None = None
    count: int = 0
    seen: frozenset[str] = frozenset()
    image_ids: frozenset[str] | None = frozenset()

    def __post_init__(self) -> None:
        closed = [name for name, preset in PRESETS.items() if preset.recipe is None]
        if self.kind not in closed:
            raise FitError(
                f"expected one of {', '.join(closed)} as the kind for --statistics, got {self.kind}: "
                "a training needs the images themselves; fit on several files of pairs instead"
            )

    @classmethod
    def load_all(cls, kind: str, space: str, files: Sequence[Path]) -> "FitStatistics":
        """Reads statistics files and adds them. Only the first, which is later written, may not exist yet.

        Raises:
            FitError: a file is damaged, or of another preset or space; or two files hold the same images.
        """
        empty = cls(kind=kind, space=space)
        if (
            files and files[0].suffix not in SAFETENSORS_SUFFIXES
        ):  # the next session could not read another type of file
            raise FitError(
                f"{files[0]}: expected a name for statistics that ends in {' or '.join(SAFETENSORS_SUFFIXES)}"
            )
        loaded = [cls._load_for(kind, space, path) for i, path in enumerate(files) if i or path.exists()]
        return reduce(add, loaded, empty)

    @classmethod
    def _load_for(cls, kind: str, space: str, path: Path) -> "FitStatistics":
        statistics = cls.load(path)
        if (statistics.kind, statistics.space) != (kind, space):
            raise FitError(
                f"{path}: expected statistics of {kind} for {space}, got those of {statistics.kind} for "
                f"{statistics.space}; name another file, or fit that kind and space"
            )
        return statistics

    def __add__(self, other: "FitStatistics") -> "FitStatistics":
        if both := len(self.seen & other.seen):
            raise FitError(f"expected statistics of different images, got {both:,} images that are in two files")
        sums = [statistics.sums for statistics in (self, other) if statistics.sums is not None]
        return replace(
            self,
            sums=reduce(add, sums) if sums else None,
            count=self.count + other.count,
            seen=self.seen | other.seen,
            image_ids=union_of_known(self.image_ids, other.image_ids),
        )

    def require_new_images(self, parts: Mapping[str, Pairs]) -> None:
        """Raises `FitError` if images were fitted on in an earlier session.

        Args:
            parts: pairs by their purpose: `TRAINING`, or another word.
        """
        for purpose, pairs in parts.items():
            known = len(image_keys(pairs) & self.seen)
            if purpose != TRAINING:  # other crops of an image in the statistics are no new image either
                known = max(known, sum(image in (self.image_ids or ()) for image in pairs.image_ids))
            if known:
                raise FitError(
                    f"{known:,} of the {len(pairs):,} {purpose} images are in the statistics already; use other images "
                    "(generated images: another --seed), and the same validation and test images in every session"
                )

    def with_session(self, sums: Sums, pairs: Pairs) -> "FitStatistics":
        """Returns statistics with one more session.

        Args:
            sums: sums of all sessions.
            pairs: training pairs of the new session.
        """
        image_ids = union_of_known(self.image_ids, known_ids(pairs.image_ids))
        seen = self.seen | image_keys(pairs)
        return replace(self, sums=sums, count=self.count + 1, seen=seen, image_ids=image_ids)

    def __str__(self) -> str:
        # A part of the card's `fitted_on`, so the words are part of the file.
        rows = self.sums.rows if self.sums else 0
        return f"{rows:,} latent pixels in {self.count} sitting{'s' * (self.count != 1)}"

    def save(self, path: Path) -> None:
        """Writes a file; a failed write leaves the old file.

        Raises:
            FitError: the file cannot be written, or there was no session yet.
        """
        if self.sums is None:
            raise FitError(f"{path}: there are no statistics to save; fit first")
        note = {"kind": self.kind, "space": self.space, "sittings": self.count, "seen": sorted(self.seen)}
        note |= {} if self.image_ids is None else {"image_ids": sorted(self.image_ids)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.sums.save(path, json.dumps(note))
        except OSError as error:
            raise FitError(
                f"{path}: the statistics cannot be written: {error.strerror or error}; the old file is unchanged"
            ) from None

    @classmethod
    def load(cls, path: Path) -> "FitStatistics":
        """Reads a file.

        Raises:
            FitError: the file is missing, damaged, or of another type.
        """
        sums, note = Sums.load(path)
        try:
            facts = json.loads(note)
            statistics = cls(
                kind=facts["kind"],
                space=facts["space"],
                sums=sums,
                count=facts["sittings"],
                seen=frozenset(facts["seen"]),
                image_ids=frozenset(facts["image_ids"]) if "image_ids" in facts else None,
            )
            form = PolynomialForm(**PRESETS[statistics.kind].settings(sums.form.channels, sums.form.subpixel))
            if sums.form != form:
                raise ValueError(f"expected {form} of {statistics.kind}, got {sums.form}")
        except (FitError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FitError(f"{path}: not statistics of `safelight fit`: {error}; name another file") from None
        return statistics


def image_keys(pairs: Pairs) -> frozenset[str]:
    """Computes a unique key for each image."""
    size = f"{list(pairs.pixels.shape[1:])}".encode()
    return frozenset(
        hashlib.blake2b(size + image.contiguous().numpy().tobytes(), digest_size=IMAGE_KEY_BYTES).hexdigest()
        for image in pairs.pixels
    )
