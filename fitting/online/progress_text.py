"""Says in one line what was learned."""

from ...decoders.measured_scores import read_measured
from .learned_files import LearnedFiles


def progress_text(files: LearnedFiles) -> str:
    """What was learned for a latent space and a VAE, for the node that teaches.

    Raises:
        OSError: a file cannot be read.
    """
    measured = read_measured(files.folder, files.space, files.vae)
    scores = dict(measured.psnr_latent_db) if measured else {}
    learned_db = scores.pop(files.decoder.stem, None)
    if measured is None or learned_db is None:
        best = f"; {max(scores, key=scores.__getitem__)} is better so far" if scores else ""
        return f"Learned from {len(files.pairs().list())} pictures, no decoder yet{best}"
    name, db = max(scores.items(), key=lambda score: score[1], default=("no decoder", 0.0))
    return (
        f"{files.decoder.stem}: {learned_db:.1f} dB on {measured.pictures} of your pictures, in use; "
        f"{name} has {db:.1f} dB"
    )
