"""The decoders that a run tries, where what the user asked for may not be there."""

from collections.abc import Callable

from ...decoders.catalogue import Candidate, Catalogue
from ...decoders.latents.identify import Evidence
from ...decoders.latents.space import LatentSpace


def candidates(
    decoders: Catalogue,
    space: LatentSpace,
    wanted: str,
    evidence: Evidence,
    tell: Callable[[str], None],
    *,
    accelerated: bool,
) -> list[Candidate]:
    """Calls `Catalogue.candidates_or_auto`; callers are to do so themselves."""
    return decoders.candidates_or_auto(space, wanted, accelerated=accelerated, evidence=evidence, notify=tell)
