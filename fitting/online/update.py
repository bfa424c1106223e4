"""Updates a decoder with each picture that a host decodes anyway.

Every VAE decode is a pair of latents and picture. Three of four pairs are added to sums for least squares, and saved
for training; the fourth is a test pair. As soon as a solution is better on the test pairs than the decoder in use, it
is written as a decoder file. `auto` then chooses it by its scores.

    <folder>/<space>-learned-<vae>.safetensors     the decoder
    <folder>/learned/<space>-<vae>/                all else, of bounded size
        state.safetensors                          sums, test pairs, keys of seen latents
        pairs/                                     training pairs
        net.safetensors                            net in training, see `net_training`
        measured.json                              scores of all light decoders on the test pairs

`<vae>` is the fingerprint of the VAE: pairs of two VAEs are never mixed.
"""

import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import IO, NamedTuple, final

import torch

from ...decoders.catalogue import Candidate, Catalogue
from ...decoders.decoder import Card, Decoder
from ...decoders.files.contained_file import write_below
from ...decoders.files.decoder_file import read_card, read_decoder, write_decoder
from ...decoders.latents.identify import UNKNOWN, Evidence
from ...decoders.latents.space import LatentSpace
from ...decoders.measured_scores import (
    LEARNED_FOLDER,
    MEASURED_FILE,
    MeasuredScores,
    learned_folder,
    measured_text,
    read_measured,
)
from ...decoders.nets.registry import KINDS_WITHOUT_WEIGHTS
from ...decoders.ranking import LIGHT
from ...errors import DecoderFileError, FitError, SafelightError
from .pair_store import DEFAULT_STORE_BYTES, PAIRS_FOLDER, PairStore
from .state import ONLINE_SOURCE, Comparison, DecodedPair, NewerStateError, OnlineState, online_decoder_name

STATE_FILE, NET_FILE, DAMAGED_SUFFIX = "state.safetensors", "net.safetensors", ".damaged"
MIN_TEST_PAIRS = 2
MIN_GAIN_DB = 0.1  # on a few pictures a smaller gain is chance

log = logging.getLogger("safelight.fitting")


@final
@dataclass(frozen=True)
class LearnedFiles:
    """The files of what is learned for one latent space and one VAE.

    Args:
        folder: folder of the user's decoders.
        space: name of the latent space.
        vae: fingerprint of the VAE; empty if unknown.
    """

    folder: Path
    space: str
    vae: str = ""

    @property
    def parent(self) -> Path:
        return learned_folder(self.folder, self.space, self.vae)

    @property
    def state(self) -> Path:
        return self.parent / STATE_FILE

    @property
    def net(self) -> Path:
        return self.parent / NET_FILE

    @property
    def decoder(self) -> Path:
        return self.folder / f"{online_decoder_name(self.space, self.vae)}.safetensors"

    def pairs(self, max_bytes: int = DEFAULT_STORE_BYTES) -> PairStore:
        return PairStore(self.parent / PAIRS_FOLDER, max_bytes)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks what is learned in `folder` against other threads and processes that learn or forget."""
        with _locked(self.folder / LEARNED_FOLDER):
            yield


@dataclass(frozen=True, kw_only=True)
class LearnedSpace:
    """A summary of online learning for one latent space and VAE.

    Args:
        files: its files.
        file_bytes: size of all its files but the decoder.
        state: content of the state file; None if there is none, or it cannot be read.
        decoder: path of the learned decoder; None if there is none.
        problem: reason why the state file cannot be read.
    """

    files: LearnedFiles
    file_bytes: int = 0
    state: OnlineState | None = None
    decoder: Path | None = None
    problem: str | None = None


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


def list_learned_spaces(folder: Path) -> list[LearnedSpace]:
    """Lists what was learned, by space and VAE.

    Raises:
        OSError: a file cannot be read.
    """
    return [_summarize(files) for files in list_learned_files(folder)]


def list_learned_files(folder: Path) -> list[LearnedFiles]:
    """Lists the spaces and VAEs with a state or a learned decoder."""
    parents = sorted(path.name for path in (folder / LEARNED_FOLDER).glob("*") if path.is_dir())
    found = {tuple(name.partition("-")[::2]) for name in parents}
    cards = (_learned_card(path) for path in sorted(folder.glob("*-learned*.safetensors")))
    found |= {(card.space or "", card.vae or "") for card in cards if card}
    return [LearnedFiles(folder, space, vae) for space, vae in sorted(found)]


def forget_space(folder: Path, space: str) -> list[Path]:
    """Removes what was learned for a space, from all VAEs; returns the removed files and folders.

    Raises:
        FitError: nothing was learned for a space of that name.
        OSError: a file cannot be removed.
    """
    known = list_learned_files(folder)
    if space not in {files.space for files in known}:
        names = ", ".join(sorted({files.space for files in known}))
        raise FitError(f"nothing was learned for {space!r} in {folder}; learned spaces: {names or 'none'}")
    removed = []
    for files in known:
        if files.space != space:
            continue
        with files.locked():
            if files.parent.is_dir():
                shutil.rmtree(files.parent)
                removed.append(files.parent)
            if _learned_card(files.decoder):
                files.decoder.unlink()
                removed.append(files.decoder)
    return removed


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
        learned = _learned_card(files.decoder)
        name = net.decoder.name
        others = {other: db for other, db in measured.psnr_latent_db.items() if other != name}
        rival_db = max([*others.values(), measured.psnr_latent_db.get(name, -torch.inf) if learned else -torch.inf])
        if net.db <= rival_db + MIN_GAIN_DB:
            return None
        _write(files, net, others, measured.judged_on, measured.pictures)
        if learned and learned.kind == net.decoder.card.kind:
            return None
        return f"{name}: a net trained while idle has {net.db:.1f} dB on {judged_on}, before {rival_db:.1f} dB"


def _summarize(files: LearnedFiles) -> LearnedSpace:
    sizes = [path.stat().st_size for path in files.parent.rglob("*") if path.is_file()]
    learned = LearnedSpace(
        files=files, file_bytes=sum(sizes), decoder=files.decoder if _learned_card(files.decoder) else None
    )
    if not files.state.exists():
        return learned
    try:
        return replace(learned, state=OnlineState.load(files.state))
    except FitError as error:
        return replace(learned, problem=str(error))


def _update_decoder(
    state: OnlineState, files: LearnedFiles, catalogue: Catalogue, evidence: Evidence | None
) -> str | None:
    """Compares the solutions with installed decoders, and writes or removes the learned decoder; describes the change.

    Excludes the learned decoder from the baseline comparison.
    """
    if len(state.test_pairs) < MIN_TEST_PAIRS:
        return None
    path, before = files.decoder, _learned_card(files.decoder)
    if path.exists() and before is None:
        return (
            f"{path}: Safelight did not write this file and leaves it unchanged; rename it to use the learned decoder"
        )
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
    """Opens the net in training; None if there is none, it is broken, or its space has other values."""
    if not files.net.exists():
        return None
    try:
        decoder = read_decoder(files.net, files.net.read_bytes())
    except DecoderFileError as error:
        log.warning("%s; training starts again", error)
        return None
    same = decoder.net.channels == space.channels and (decoder.card.latent_space or space).values == space.values
    return decoder if same else None


def _score_baselines(
    state: OnlineState, catalogue: Catalogue, evidence: Evidence | None
) -> tuple[Candidate, dict[str, float]] | None:
    """Scores the installed light decoders; returns the one that `auto` would use on a CPU, and all scores by name.

    None if a heavy decoder is in use: the learned decoder is light and would hardly be better.
    """
    space = state.space
    installed = [c for c in catalogue.of(space, vae=state.vae) if c.card.source != ONLINE_SOURCE]
    light = [c for c in installed if c.card.cost <= LIGHT]
    # Decoders that do not come from the user's folders: shipped ones, the host's factors, those without weights.
    light += [c for c in Catalogue().candidates(space, evidence=evidence) if c.card.cost <= LIGHT]
    scores: dict[str, float] = {}
    in_use = None
    for candidate in light:
        if candidate.name in scores:
            continue
        try:
            scores[candidate.name] = state.psnr_db(candidate.open())
        except (SafelightError, RuntimeError) as error:  # auto skips it as well
            log.debug("%s is not scored: %s", candidate.name, error)
            continue
        if in_use is None or scores[candidate.name] > scores[in_use.name]:
            in_use = candidate
    if in_use is None or (installed and all(c.card.kind in KINDS_WITHOUT_WEIGHTS for c in light)):
        return None
    return in_use, scores


def _open_state(files: LearnedFiles, space: LatentSpace) -> OnlineState:
    """Opens the state of `space`; a file that cannot be used is renamed, and learning starts again.

    Raises:
        NewerStateError: a newer version of Safelight wrote the file.
    """
    path = files.state
    if not path.exists():
        return OnlineState(space, files.vae)
    try:
        state = OnlineState.load(path)
        if state.space.values != space.values or state.vae != files.vae:
            raise FitError(f"{path}: state of another latent space with the name {space.name}, or of another VAE")
    except NewerStateError:
        raise
    except FitError as error:
        damaged = path.with_suffix(DAMAGED_SUFFIX)
        path.replace(damaged)
        log.warning("%s; renamed to %s, learning starts again", error, damaged.name)
        return OnlineState(space, files.vae)
    return state


def _learned_card(path: Path) -> Card | None:
    """The card of a decoder that online learning wrote; None for another file, or none."""
    try:
        card = read_card(path)
    except DecoderFileError:
        return None
    return card if card.source == ONLINE_SOURCE else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks `folder` against other threads and processes that learn or forget."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("ab") as file:
        try:
            _lock(file)
        except OSError as error:  # a file system without locks: of two simultaneous decodes one may be lost
            log.debug("%s cannot be locked: %s", folder, error)
        for partial in folder.glob(".*.part"):  # left by a process that was ended
            partial.unlink(missing_ok=True)
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
