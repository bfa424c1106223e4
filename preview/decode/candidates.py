"""The decoders that a run tries, where what the user asked for may not be there."""

from collections.abc import Callable

from ...decoders.catalogue import Candidate, Catalogue
from ...decoders.latents.identify import Evidence
from ...decoders.latents.space import LatentSpace
from ...errors import SafelightError


def candidates(
    decoders: Catalogue,
    space: LatentSpace,
    wanted: str,
    evidence: Evidence,
    tell: Callable[[str], None],
    *,
    accelerated: bool,
) -> list[Candidate]:
    """Decoders of `space`, best first; if what is `wanted` is not there the user is told, and it is chosen
    automatically.
    """
    try:
        return decoders.candidates(space, wanted, evidence=evidence, accelerated=accelerated)
    except SafelightError as error:
        tell(f"{str(error).rstrip('.')}. Chosen automatically instead.")
        return decoders.candidates(space, evidence=evidence, accelerated=accelerated)
