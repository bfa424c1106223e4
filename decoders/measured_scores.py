"""Scores of decoders on the user's own pictures: what learning measured, for `auto` and the lists of decoders.

    <folder>/learned/<space>-<vae>/measured.json

A shipped decoder's own scores are from other pictures, and perhaps from another VAE. These are from the VAE that the
user decodes with, so they count first.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DecoderFileError
from .files.read_cache import read_cached
from .files.regular_file import read_regular_file

LEARNED_FOLDER, MEASURED_FILE = "learned", "measured.json"
MEASURED_FORMAT = "safelight.measured/1"
MAX_MEASURED_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class MeasuredScores:
    """The scores of several decoders on the same pictures.

    Args:
        vae: fingerprint of the VAE that decoded the pictures; empty if unknown.
        judged_on: description of the pictures; other pictures have another description.
        pictures: number of pictures.
        psnr_latent_db: for each decoder, by name, the mean PSNR at latent size against the VAE's pictures, in dB.
    """

    vae: str
    judged_on: str
    pictures: int
    psnr_latent_db: Mapping[str, float]

    def metrics_of(self, name: str) -> dict[str, Any]:
        """The scores of one decoder, in the form of a card's `metrics`; empty if it was not measured."""
        if name not in self.psnr_latent_db:
            return {}
        return {
            "psnr_latent_db": self.psnr_latent_db[name],
            "judged_on": self.judged_on,
            "pictures": self.pictures,
        }


def learned_folder(folder: Path, space: str, vae: str) -> Path:
    """Folder with what was learned for a latent space and a VAE, in the user's decoder folder."""
    return folder / LEARNED_FOLDER / (f"{space}-{vae}" if vae else space)


def read_measured(folder: Path, space: str, vae: str | None) -> MeasuredScores | None:
    """Reads the scores for a latent space; of its newest VAE if `vae` is None. None if nothing was measured.

    A file that cannot be read counts as missing: the next decode writes it again.
    """
    if vae is not None:
        files = [learned_folder(folder, space, vae) / MEASURED_FILE]
    else:
        parents = [folder / LEARNED_FOLDER / space, *(folder / LEARNED_FOLDER).glob(f"{space}-*")]
        files = sorted((parent / MEASURED_FILE for parent in parents), key=_changed_at, reverse=True)
    for file in files:
        try:
            return read_cached(_read, file)
        except DecoderFileError:
            continue
    return None


def measured_text(scores: MeasuredScores) -> str:
    """The content of a file with scores."""
    facts = {"format": MEASURED_FORMAT, "vae": scores.vae, "judged_on": scores.judged_on, "pictures": scores.pictures}
    return json.dumps({**facts, "psnr_latent_db": dict(scores.psnr_latent_db)}, indent=1, sort_keys=True)


def _changed_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return -math.inf


def _read(file: Path) -> MeasuredScores:
    try:
        facts = json.loads(read_regular_file(file, MAX_MEASURED_BYTES))
        if facts["format"] != MEASURED_FORMAT:
            raise ValueError(f"expected format {MEASURED_FORMAT}, got {facts['format']!r}")
        scores = {str(name): float(db) for name, db in facts["psnr_latent_db"].items()}
        if not all(map(math.isfinite, scores.values())):
            raise ValueError("expected finite scores")
        return MeasuredScores(
            vae=str(facts["vae"]),
            judged_on=str(facts["judged_on"]),
            pictures=int(facts["pictures"]),
            psnr_latent_db=scores,
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise DecoderFileError(f"{file}: no scores of decoders: {error}") from None
