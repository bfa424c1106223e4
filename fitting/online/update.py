"""Updates a decoder with each picture that a host decodes anyway.

Every VAE decode is a pair of latents and picture. Three of four pairs are added to sums for least squares, and saved
for training; the fourth is a test pair. As soon as a solution is better on the test pairs than the decoder in use, it
is written as a decoder file. `auto` then chooses it by its scores.

`learned_files` lists the files; pairs of two VAEs are never mixed.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import NamedTuple

import torch

from ...decoders.catalogue import Candidate, Catalogue
from ...decoders.decoder import Decoder
from ...decoders.files.contained_file import write_below
from ...decoders.files.decoder_file import read_decoder, write_decoder
from ...decoders.latents.identify import UNKNOWN, Evidence
from ...decoders.latents.space import LatentSpace
from ...decoders.measured_scores import MEASURED_FILE, MeasuredScores, measured_text, read_measured
from ...decoders.nets.registry import KINDS_WITHOUT_WEIGHTS
from ...decoders.ranking import LIGHT
from ...errors import DecoderFileError, FitError, SafelightError
from .learned_files import LearnedFiles
from .pair_store import DEFAULT_STORE_BYTES
from .state import Comparison, DecodedPair, NewerStateError, OnlineState, online_decoder_name

DAMAGED_SUFFIX = ".damaged"
MIN_TEST_PAIRS = 2
MIN_GAIN_DB = 0.1  # on a few pictures a smaller gain is chance

log = logging.getLogger("safelight.fitting")


class Judged(NamedTuple):
    """A learned decoder with its score: mean PSNR on the test pairs at latent size, in dB."""

    db: float
    decoder: Decoder


@torch.no_grad()
def learn_from_decode(
    folder: Path,
    space: LatentSpace,
    decoded: DecodedPair,
    catalogue: Catalogue,
    evidence: Evidence | None = None,
    *,
    vae: str = "",
    store_bytes: int = DEFAULT_STORE_BYTES,
) -> str | None:
    """Adds a decode to what is learned, and writes or removes the learned decoder.

    Args:
        folder: folder of the user's decoders.
        space: latent space of the latents; a space that is not in `SPACES` is stored in the decoder's card.
        decoded: latents and pictures of the decode.
        catalogue: installed decoders, including those in `folder`.
        evidence: what the host knows of the latents; its own factors are compared as well.
        vae: fingerprint of the VAE that decoded; empty if unknown.
        store_bytes: size of the saved training pairs.

    Returns:
        A description of the change for the user; None if nothing changed.

    Raises:
        FitError: the decode cannot be used: it is not finite, of another space, or of an unknown space.
        OSError: a file cannot be read or written.
    """
    if space.name == UNKNOWN:
        raise FitError("the latent space is unknown, so this decode cannot be used for learning")
    files = LearnedFiles(folder, space.name, vae)
    with files.locked():
        state = _open_state(files, space)
        pairs = state.add(decoded)
        if pairs is None:
            return None
        try:
            return _update_decoder(state, files, catalogue, evidence)
        finally:
            files.parent.mkdir(parents=True, exist_ok=True)
            state.save(files.state)
            for key, pair in pairs.items():
                files.pairs(store_bytes).add(key, pair)


def publish_net(files: LearnedFiles, net: Judged, judged_on: str) -> str | None:
    """Writes a net in training as the learned decoder, if it is better than the decoder in use and the learned one.

    Args:
        files: files of the space and the VAE.
        net: net with its score.
        judged_on: description of the pictures that judged it.

    Returns:
        A description of the change for the user; None if nothing changed, or if the test pairs are others meanwhile.

    Raises:
        OSError: a file cannot be read or written.
    """
    with files.locked():
        measured = read_measured(files.folder, files.space, files.vae)
        if measured is None or measured.judged_on != judged_on:
            return None
        learned, name = files.card(), net.decoder.name
        if files.decoder.exists() and learned is None:
            return _leaves_unchanged(files.decoder)
        others = {other: db for other, db in measured.psnr_latent_db.items() if other != name}
        rival_db = max([*others.values(), measured.psnr_latent_db.get(name, -torch.inf) if learned else -torch.inf])
        if net.db <= rival_db + MIN_GAIN_DB:
            return None
        _write(files, net, others, measured.judged_on, measured.pictures)
        if learned and learned.kind == net.decoder.card.kind:
            return None
        return f"{name}: a net trained while idle has {net.db:.1f} dB on {judged_on}, before {rival_db:.1f} dB"


def _update_decoder(
    state: OnlineState, files: LearnedFiles, catalogue: Catalogue, evidence: Evidence | None
) -> str | None:
    """Compares the solutions with installed decoders, and writes or removes the learned decoder; describes the change.

    Excludes the learned decoder from the baseline comparison.
    """
    if len(state.test_pairs) < MIN_TEST_PAIRS:
        return None
    path, before = files.decoder, files.card()
    if path.exists() and before is None:
        return _leaves_unchanged(path)
    if (scored := _score_baselines(state, catalogue, evidence)) is None:
        return None
    in_use, scores = scored
    in_use_db = scores[in_use.name]
    found = [Judged(state.psnr_db(solution.judged), solution.decoder) for solution in state.solve()]
    if net := _open_net(files, state.space):
        found.append(Judged(state.psnr_db(net), net))
    best = max(found, key=lambda judged: judged.db, default=None)
    state.comparison = Comparison(
        judged_on=state.judged_on, learned_db=best and best.db, in_use=in_use.name, in_use_db=in_use_db
    )
    if best is not None and best.db > in_use_db + MIN_GAIN_DB:
        _write(files, best, scores, state.judged_on, len(state.test_pairs))
        if before and before.kind == best.decoder.card.kind:
            return None
        return (
            f"{path.stem}: auto uses it from the next run on: {best.db:.1f} dB, {in_use.name} {in_use_db:.1f} dB "
            f"on {state.judged_on}; {best.decoder.card.fitted_on}"
        )
    _write_measured(files, scores, state.judged_on, len(state.test_pairs))
    if before and best and best.db < in_use_db:
        path.unlink()
        return (
            f"{path.stem}: removed, because it is now worse than {in_use.name}: {best.db:.1f} dB and {in_use_db:.1f} dB"
        )
    return None


def _leaves_unchanged(path: Path) -> str:
    return f"{path}: online learning did not write this file and leaves it unchanged; rename it to use what was learned"


def _write(files: LearnedFiles, judged: Judged, others: Mapping[str, float], judged_on: str, pictures: int) -> None:
    """Writes the learned decoder, and the scores of all."""
    metrics = {
        "psnr_latent_db": judged.db,
        "judged_on": judged_on,
        "beside": {name: {"psnr_latent_db": db} for name, db in others.items()},
    }
    decoder = judged.decoder
    write_decoder(files.decoder, replace(decoder.card, metrics=metrics), decoder.net.state_dict())
    _write_measured(files, {**others, decoder.name: judged.db}, judged_on, pictures)


def _write_measured(files: LearnedFiles, scores: Mapping[str, float], judged_on: str, pictures: int) -> None:
    measured = MeasuredScores(vae=files.vae, judged_on=judged_on, pictures=pictures, psnr_latent_db=scores)
    write_below(
        files.folder, PurePath(files.parent.relative_to(files.folder), MEASURED_FILE), measured_text(measured).encode()
    )


def _open_net(files: LearnedFiles, space: LatentSpace) -> Decoder | None:
    """Opens the net in training; None if there is none. A file that cannot be used is renamed."""
    if not files.net.exists():
        return None
    try:
        decoder = read_decoder(files.net)
        if decoder.net.channels != space.channels or (decoder.card.latent_space or space).values != space.values:
            raise DecoderFileError(f"{files.net}: for another latent space with the name {space.name}")
    except DecoderFileError as error:
        log.warning("%s; renamed to %s, training starts again", error, _rename_damaged(files.net).name)
        return None
    return decoder


def _score_baselines(
    state: OnlineState, catalogue: Catalogue, evidence: Evidence | None
) -> tuple[Candidate, dict[str, float]] | None:
    """Scores the installed light decoders; returns the one that `auto` would use on a CPU, and all scores by name.

    None if a heavy decoder is in use: the learned decoder is light and would hardly be better.
    """
    space = state.space
    learned = online_decoder_name(space.name, state.vae)
    installed = [c for c in catalogue.of(space, vae=state.vae) if c.name != learned]
    light = [c for c in installed if c.card.cost <= LIGHT]
    # Decoders that do not come from the user's folders: shipped ones, the host's factors, those without weights.
    light += [c for c in Catalogue().candidates(space, evidence=evidence) if c.card.cost <= LIGHT]
    scores: dict[str, float] = {}
    for candidate in light:
        if candidate.name in scores:
            continue
        try:
            scores[candidate.name] = state.psnr_db(candidate.open())
        except (SafelightError, RuntimeError) as error:  # auto skips it as well
            log.debug("%s is not scored: %s", candidate.name, error)
    scored = [c for c in light if c.name in scores]
    # Those without weights come last in auto, whatever their score.
    with_weights = [c for c in scored if c.card.kind not in KINDS_WITHOUT_WEIGHTS]
    if not scored or (installed and not with_weights):
        return None
    return max(with_weights or scored, key=lambda c: scores[c.name]), scores


def _open_state(files: LearnedFiles, space: LatentSpace) -> OnlineState:
    """Opens the state of `space`. A file that cannot be used is renamed, and the saved pairs are added again.

    Raises:
        NewerStateError: a newer version of Safelight wrote the file.
        OSError: a file cannot be read or renamed.
    """
    path = files.state
    if not path.exists():
        return OnlineState(space, files.vae)
    try:
        state = OnlineState.load(path)
    except NewerStateError:
        raise
    except FitError as error:
        renamed, state = _rename_damaged(path), OnlineState(space, files.vae)
        state.restore(files.pairs().load(space.channels))
        log.warning("%s; renamed to %s, learning goes on with %d saved pictures", error, renamed.name, state.pictures)
        return state
    if state.space.values == space.values and state.vae == files.vae:
        return state
    # The pairs are in the units of the other latent space, and the net was trained on them.
    files.pairs().clear()
    files.net.unlink(missing_ok=True)
    log.warning(
        "%s: of another latent space with the name %s, or of another VAE; renamed to %s, learning starts again",
        path,
        space.name,
        _rename_damaged(path).name,
    )
    return OnlineState(space, files.vae)


def _rename_damaged(path: Path) -> Path:
    return path.replace(path.with_suffix(DAMAGED_SUFFIX))
