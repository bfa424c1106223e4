"""Fits that go on: the sums of a closed form, kept between sittings and brought together from several machines."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

from ..decoders.files.tensor_file import SAFE
from ..errors import FitError
from .least_squares import Form, Sums
from .pairs import Pairs
from .presets import PRESETS

KEY_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class FitStatistics:
    """All that one closed form was fitted on so far, without the pictures.

    What a sitting held back is not in it: it can be held back again in the next one.

    Args:
        kind: the name of a closed form in `LADDER`.
        space: the name of the latent space.
        sums: of the pictures; None before the first sitting.
        count: of sittings.
        seen: keys of the pictures, in hexadecimal, so that none is counted twice or judged by.

    Raises:
        FitError: the kind is trained, which no sums are enough for.
    """

    kind: str
    space: str
    sums: Sums | None = None
    count: int = 0
    seen: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        closed = [name for name, rung in PRESETS.items() if rung.recipe is None]
        if self.kind not in closed:
            raise FitError(
                f"expected one of {', '.join(closed)} as the kind that statistics are kept for, got {self.kind}: "
                "a training needs the pictures themselves; fit on several files of pairs instead"
            )

    @classmethod
    def gathered(cls, kind: str, space: str, files: Sequence[Path]) -> "FitStatistics":
        """Those in the files, added up. Only the first, which is where they are then kept, may be missing yet.

        Raises:
            FitError: a file is damaged, or of another kind or space; or two hold the same pictures.
        """
        none = cls(kind=kind, space=space)
        if files and files[0].suffix not in SAFE:  # what is kept there could not be read the next time
            raise FitError(f"{files[0]}: expected a name for statistics that ends in {' or '.join(SAFE)}")
        begun = [cls._of(kind, space, path) for i, path in enumerate(files) if i or path.exists()]
        return reduce(add, begun, none)

    @classmethod
    def _of(cls, kind: str, space: str, path: Path) -> "FitStatistics":
        sittings = cls.load(path)
        if (sittings.kind, sittings.space) != (kind, space):
            raise FitError(
                f"{path}: expected the statistics of {kind} for {space}, got those of {sittings.kind} for "
                f"{sittings.space}; name another file, or fit that"
            )
        return sittings

    def __add__(self, other: "FitStatistics") -> "FitStatistics":
        if both := len(self.seen & other.seen):
            raise FitError(f"expected statistics of different pictures, got {both:,} that are in two of the files")
        sums = [some.sums for some in (self, other) if some.sums is not None]
        return replace(
            self,
            sums=reduce(add, sums) if sums else None,
            count=self.count + other.count,
            seen=self.seen | other.seen,
        )

    def expect_new(self, parts: Mapping[str, Pairs]) -> None:
        """Raises `FitError` if pictures were fitted on before.

        Args:
            parts: by what they are for, such as `fit on`.
        """
        for purpose, pairs in parts.items():
            if known := len(keys(pairs) & self.seen):
                raise FitError(
                    f"{known:,} of the {len(pairs):,} pictures to {purpose} are in the statistics already; give others "
                    "(procedural ones: another --seed), and the same ones to hold back in every sitting"
                )

    def grown(self, sums: Sums, pairs: Pairs) -> "FitStatistics":
        """With one sitting more.

        Args:
            sums: those of all sittings.
            pairs: what this one was fitted on.
        """
        return replace(self, sums=sums, count=self.count + 1, seen=self.seen | keys(pairs))

    def __str__(self) -> str:
        rows = self.sums.rows if self.sums else 0
        return f"{rows:,} latent pixels in {self.count} sitting{'s' * (self.count != 1)}"

    def save(self, path: Path) -> None:
        """Writes a file, whole or not at all.

        Raises:
            FitError: it cannot be written, or there was no sitting yet.
        """
        if self.sums is None:
            raise FitError(f"{path}: expected statistics to keep, got none; fit first")
        note = {"kind": self.kind, "space": self.space, "sittings": self.count, "seen": sorted(self.seen)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.sums.save(path, json.dumps(note))
        except OSError as error:
            raise FitError(
                f"{path}: the statistics cannot be written there: {error.strerror or error}; what was there before is "
                "as it was"
            ) from None

    @classmethod
    def load(cls, path: Path) -> "FitStatistics":
        """Reads a file.

        Raises:
            FitError: there is no such file, it holds something else, or it is damaged.
        """
        sums, note = Sums.load_noted(path)
        try:
            facts = json.loads(note)
            sittings = cls(
                kind=facts["kind"],
                space=facts["space"],
                sums=sums,
                count=facts["sittings"],
                seen=frozenset(facts["seen"]),
            )
            expected = Form(**PRESETS[sittings.kind].settings(sums.form.channels, sums.form.subpixel))
            if sums.form != expected:
                raise ValueError(f"expected {expected} of {sittings.kind}, got {sums.form}")
        except (FitError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FitError(f"{path}: no statistics that `safelight fit` keeps: {error}; name another file") from None
        return sittings


def keys(pairs: Pairs) -> frozenset[str]:
    """A key for each picture, which those of another picture do not have."""
    size = f"{list(pairs.pixels.shape[1:])}".encode()
    return frozenset(
        hashlib.blake2b(size + picture.contiguous().numpy().tobytes(), digest_size=KEY_BYTES).hexdigest()
        for picture in pairs.pixels
    )
