"""Offers a published decoder for the latents of a run, once for each latent space."""

import logging
import threading
from typing import final

from ...decoders.catalogue import Catalogue
from ...decoders.files.download import download
from ...decoders.latents.space import LatentSpace
from ...decoders.published_decoders import PublishedDecoder, better_decoder, published_decoder
from ...preview.run import Run, State
from ...preview.sinks.base import Delivery, Sink
from .decoder_folders import own_folder

ONE_AT_A_TIME = threading.Lock()

log = logging.getLogger("safelight.comfyui")


@final
class DecoderOffer(Sink):
    """Adds an offer to a run whose decoder is one that ships, while a better one is published.

    The viewer shows it as a note with a button. `run.json` does not have it: it is nothing about the run. A note of the
    run goes first: then another run makes the offer.

    Args:
        run: run that receives the offer.
        catalogue: available decoders. Its first folder remembers the offer.
        space: latent space of the run.
        accelerated: whether `auto` takes such a decoder, because the latents are on a device faster than a CPU.
    """

    name = "the offer of a decoder"
    delivery = Delivery.NEWEST

    def __init__(self, run: Run, catalogue: Catalogue, space: LatentSpace, *, accelerated: bool) -> None:
        self._run, self._catalogue, self._space, self._accelerated = run, catalogue, space, accelerated

    def close(self, state: State) -> None:
        key = f"offer for {self._space.name}"
        if state != "finished" or self._run.notes or key in self._catalogue.trials().noted:
            return
        decoder = better_decoder(self._catalogue, self._space)
        if decoder is None:
            return
        try:
            self._catalogue.save_trials(lambda trials: trials.with_noted([key]))
        except OSError as error:  # an offer that cannot be remembered would come with every run
            log.debug("no decoder is offered: %s", error)
            return
        text = self._text(decoder)
        self._run.offers[text] = decoder.name
        log.info(text)

    def _text(self, decoder: PublishedDecoder) -> str:
        use = "" if self._accelerated else ". On a CPU, choose it as the decoder: auto takes a lighter one"
        return (
            f"a better decoder for {self._space.title} is published: {decoder.name}, {decoder.size_text}, license "
            f"{decoder.licence}. The button downloads it, as `safelight get {decoder.name}` does{use}"
        )


def get_decoder(name: str) -> str:
    """Downloads a published decoder into the folder of the user's decoders, and returns the name of its file.

    Raises:
        DownloadError, AlteredFileError: as `download`.
    """
    decoder = published_decoder(name)
    with ONE_AT_A_TIME:
        return download(decoder, own_folder()).name
