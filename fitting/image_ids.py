"""Identifies images, so that no decoder is scored on images that it was fitted on.

An id is a hash of all pixels of an image, before crops are cut from it. Cards of fitted decoders, pairs and statistics
have the ids of their images.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..decoders.decoder import IMAGE_ID_DIGITS, Card
from ..decoders.files.shipped import shipped_file

IMAGE_ID_BYTES = IMAGE_ID_DIGITS // 2
UNKNOWN_IMAGE = "f" * IMAGE_ID_DIGITS  # of pairs from an earlier Safelight, or from elsewhere
SEVERAL_IMAGES = "0" * IMAGE_ID_DIGITS  # of half-way latents, which blend images
MOST = 0.5  # share of the pairs that may be left out of a comparison so that a decoder takes part in it
MAX_LISTED = 4


def image_id(pixels: np.ndarray) -> str:
    """Computes the id of an image `[H, W, 3]` uint8."""
    digest = hashlib.blake2b(f"{list(pixels.shape)}".encode(), digest_size=IMAGE_ID_BYTES)
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def known_ids(image_ids: Iterable[str]) -> frozenset[str] | None:
    """The images of pairs; None if some are unknown. Half-way latents blend images of pairs that are there as well."""
    ids = frozenset(image_ids)
    return None if UNKNOWN_IMAGE in ids else ids - {SEVERAL_IMAGES}


def union_of_known(some: frozenset[str] | None, more: frozenset[str] | None) -> frozenset[str] | None:
    """The images of two sources; None if those of one are unknown."""
    return None if some is None or more is None else some | more


def fitted_ids(cards: Iterable[Card], space: str) -> frozenset[str]:
    """The images that decoders of a latent space were fitted on, as far as their cards say so."""
    return frozenset().union(*(card.image_ids or () for card in cards if card.space == space))


class FairComparison(NamedTuple):
    """Which pairs and decoders a comparison leaves out, because a decoder was fitted on the images of the pairs.

    Args:
        keeps: for each pair, whether it stays.
        left_out: names of decoders that cannot be compared.
        notes: explanations for the user.
    """

    keeps: Sequence[bool]
    left_out: frozenset[str]
    notes: Sequence[str]


def fair_comparison(image_ids: Sequence[str], cards: Sequence[Card]) -> FairComparison:
    """Chooses the pairs on which decoders can be compared.

    A decoder that was fitted on most of the pairs is left out. Then the pairs are left out that another decoder was
    fitted on.

    Args:
        image_ids: image of each pair.
        cards: cards of the decoders.
    """
    leaks = {card.name: [image in (card.image_ids or ()) for image in image_ids] for card in cards}
    left_out = {name for name, leak in leaks.items() if sum(leak) > MOST * len(image_ids)}
    keeps = [not any(leaks[name][i] for name in leaks.keys() - left_out) for i in range(len(image_ids))]
    if not any(keeps):
        left_out = {name for name, leak in leaks.items() if any(leak)}
        keeps = [True] * len(image_ids)
    notes = []
    if left_out:
        notes.append(f"not scored: {listed(left_out)}, fitted on images of these pairs; give other images to score it")
    if count := keeps.count(False):
        names = {name for name, leak in leaks.items() if any(leak)} - left_out
        notes.append(f"{count} of {len(keeps)} pairs are left out: {listed(names)}, fitted on their images")
    return FairComparison(keeps, frozenset(left_out), [*notes, *unknown_notes(cards)])


def unknown_notes(cards: Sequence[Card]) -> list[str]:
    """A line that names fitted decoders of the user whose cards do not say on which images; none if there are none."""
    fitted = [card for card in cards if card.fitted_on and card.image_ids is None]
    names = {card.name for card in fitted if not shipped_file(card.name).is_file()}
    if not names:
        return []
    return [f"no image ids in {listed(names)}: whether it was fitted on images that score it here cannot be checked"]


def listed(names: Iterable[str]) -> str:
    """Lists a few names."""
    first, rest = sorted(names)[:MAX_LISTED], sorted(names)[MAX_LISTED:]
    return ", ".join(first) + (f" and {len(rest)} more" if rest else "")
