"""Updates a decoder with each picture that a host decodes anyway.

Every VAE decode is a pair of latents and picture. Three of four pairs are added to sums for least squares, the fourth
is a test pair. As soon as a solution is better on the test pairs than the decoder in use and the solution before, it is
written as a decoder file. `auto` then chooses it by its scores.

    <folder>/<space>-learned.safetensors     the decoder
    <folder>/learned/<space>.safetensors     the state of the space: one file, of bounded size
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch

from ...decoders.catalogue import Candidate, Catalogue
from ...decoders.decoder import Decoder
from ...decoders.files.decoder_file import read_card, read_decoder, write_decoder
from ...decoders.latents.identify import UNKNOWN, Evidence
from ...decoders.latents.space import LatentSpace
from ...decoders.nets.registry import KINDS_WITHOUT_WEIGHTS
from ...decoders.ranking import LIGHT, gain_db
from ...errors import DecoderFileError, FitError, SafelightError
from .state import ONLINE_SOURCE, Comparison, DecodedPair, NewerStateError, OnlineState, online_decoder_name

STATE_SUFFIX, DAMAGED_SUFFIX = ".safetensors", ".damaged"
MIN_TEST_PAIRS = 2
MIN_GAIN_DB = 0.1  # on a few pictures a smaller gain is chance

log = logging.getLogger("safelight.fitting")


@dataclass(frozen=True, kw_only=True)
class LearnedSpace:
    """A summary of online learning for one latent space.

    Args:
        space: name of the latent space.
        file_bytes: size of the state file.
        state: content of the state file; None if there is none, or it cannot be read.
        decoder: path of the learned decoder; None if there is none.
        problem: reason why the state file cannot be read.
    """

    space: str
    file_bytes: int = 0
    state: OnlineState | None = None
    decoder: Path | None = None
    problem: str | None = None


@torch.no_grad()
def learn_from_decode(
    folder: Path, space: LatentSpace, decoded: DecodedPair, catalogue: Catalogue, evidence: Evidence | None = None
) -> str | None:
    """Adds a decode to the state of `space`, and writes or removes the learned decoder.

    Args:
        folder: folder of the user's decoders.
        space: latent space of the latents; a space that is not in `SPACES` is stored in the decoder's card.
        decoded: latents and pictures of the decode.
        catalogue: installed decoders, including those in `folder`.
        evidence: what the host knows of the latents; its own factors are compared as well.

    Returns:
        A description of the change for the user; None if nothing changed.

    Raises:
        FitError: the decode cannot be used: it is not finite, of another space, or of an unknown space.
        OSError: a file cannot be read or written.
    """
    if space.name == UNKNOWN:
        raise FitError("the latent space is unknown, so this decode cannot be used for learning")
    path = _state_path(folder, space.name)
    with _locked(path.parent):
        state = _open_state(path, space)
        if not state.add(decoded):
            return None
        try:
            return _update_decoder(state, folder, catalogue, evidence)
        finally:
            state.save(path)


def list_learned_spaces(folder: Path) -> list[LearnedSpace]:
    """Lists the spaces with a state or a learned decoder, by name.

    Raises:
        OSError: a file cannot be read.
    """
    return [_summarize(folder, space) for space in _space_names(folder)]


def forget_space(folder: Path, space: str) -> list[Path]:
    """Removes the state and the learned decoder of a space; returns the removed files.

    Raises:
        FitError: nothing was learned for a space of that name.
        OSError: a file cannot be removed.
    """
    if space not in (known := _space_names(folder)):
        raise FitError(f"nothing was learned for {space!r} in {folder}; learned spaces: {', '.join(known) or 'none'}")
    path, decoder = _state_path(folder, space), _decoder_path(folder, space)
    with _locked(path.parent):
        removed = [file for file in (path, path.with_suffix(DAMAGED_SUFFIX)) if file.is_file()]
        removed += [decoder] if _is_learned(decoder) else []
        for file in removed:
            file.unlink()
    return removed


def _space_names(folder: Path) -> list[str]:
    known = {path.stem for suffix in (STATE_SUFFIX, DAMAGED_SUFFIX) for path in (folder / "learned").glob(f"*{suffix}")}
    decoders = {path for path in folder.glob(f"*-learned{STATE_SUFFIX}") if _is_learned(path)}
    return sorted(known | {path.stem.removesuffix("-learned") for path in decoders})


def _summarize(folder: Path, space: str) -> LearnedSpace:
    path, decoder = _state_path(folder, space), _decoder_path(folder, space)
    learned = LearnedSpace(space=space, decoder=decoder if _is_learned(decoder) else None)
    if not path.exists():
        return learned
    learned = replace(learned, file_bytes=path.stat().st_size)
    try:
        return replace(learned, state=OnlineState.load(path))
    except FitError as error:
        return replace(learned, problem=str(error))


def _update_decoder(state: OnlineState, folder: Path, catalogue: Catalogue, evidence: Evidence | None) -> str | None:
    """Compares the solutions with installed decoders, and writes or removes the learned decoder; describes the change.

    Excludes the learned decoder from the baseline comparison.
    """
    if len(state.test_pairs) < MIN_TEST_PAIRS:
        return None
    path = _decoder_path(folder, state.space.name)
    if path.exists() and not _is_learned(path):
        return (
            f"{path}: Safelight did not write this file and leaves it unchanged; rename it to use the learned decoder"
        )
    if (scored := _score_baselines(state, catalogue, evidence)) is None:
        return None
    in_use, scores = scored
    old = _open_learned(path, state.space)
    old_db = state.psnr_db(old) if old else -torch.inf
    solved = [(state.psnr_db(decoder), decoder) for decoder in state.solve()]
    new_db, new = max(solved, key=lambda solution: solution[0], default=(-torch.inf, None))
    best_db, best = (new_db, new) if new_db > old_db + MIN_GAIN_DB else (old_db, old)
    in_use_db = scores[in_use.name]
    state.comparison = Comparison(
        judged_on=state.judged_on,
        learned_db=max(best_db, new_db) if best or new else None,
        in_use=in_use.name,
        in_use_db=in_use_db,
    )
    if best is not None and best_db > in_use_db + MIN_GAIN_DB:
        if best is old and (gain_db(best.card, in_use.card) or 0) > 0:
            return None
        # An old decoder is written again if baselines are new: `auto` compares only decoders that its card names.
        metrics = {
            "psnr_latent_db": best_db,
            "judged_on": state.judged_on,
            "beside": {name: {"psnr_latent_db": db} for name, db in scores.items()},
        }
        write_decoder(path, replace(best.card, metrics=metrics), best.net.state_dict())
        return (
            f"{path.stem}: auto uses it from the next run on: {best_db:.1f} dB, {in_use.name} {in_use_db:.1f} dB "
            f"on {state.judged_on}; fitted on {best.card.fitted_on}"
        )
    if path.exists() and old_db < in_use_db:
        path.unlink()
        return (
            f"{path.stem}: removed, because it is now worse than {in_use.name}: {old_db:.1f} dB and {in_use_db:.1f} dB"
        )
    return None


def _open_learned(path: Path, space: LatentSpace) -> Decoder | None:
    """Opens the learned decoder; None if there is none, it is broken, or its space has other values."""
    if not path.exists():
        return None
    try:
        decoder = read_decoder(path, path.read_bytes())
    except DecoderFileError as error:
        log.warning("%s", error)
        return None
    same = decoder.net.channels == space.channels and (decoder.card.latent_space or space).values == space.values
    return decoder if same else None


def _score_baselines(
    state: OnlineState, catalogue: Catalogue, evidence: Evidence | None
) -> tuple[Candidate, dict[str, float]] | None:
    """Scores the installed light decoders; returns the one that `auto` uses on a CPU, and all scores by name.

    None if a heavy decoder is in use: the learned decoder is light and would hardly be better.
    """
    space, own = state.space, online_decoder_name(state.space.name)
    installed = [c for c in catalogue.of(space) if c.name != own]
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
        if in_use is None or (gain_db(candidate.card, in_use.card) or 0) > 0:
            in_use = candidate
    if in_use is None or (in_use.card.kind in KINDS_WITHOUT_WEIGHTS and len(installed) > 0):
        return None
    return in_use, scores


def _open_state(path: Path, space: LatentSpace) -> OnlineState:
    """Opens the state of `space`; a file that cannot be used is renamed, and learning starts again.

    Raises:
        NewerStateError: a newer version of Safelight wrote the file.
    """
    if not path.exists():
        return OnlineState(space)
    try:
        state = OnlineState.load(path)
        if state.space.values != space.values:
            raise FitError(f"{path}: state of another latent space with the name {space.name}")
    except NewerStateError:
        raise
    except FitError as error:
        damaged = path.with_suffix(DAMAGED_SUFFIX)
        path.replace(damaged)
        log.warning("%s; renamed to %s, learning starts again", error, damaged.name)
        return OnlineState(space)
    return state


def _is_learned(path: Path) -> bool:
    try:
        return read_card(path).source == ONLINE_SOURCE
    except DecoderFileError:
        return False


def _state_path(folder: Path, space: str) -> Path:
    return folder / "learned" / f"{space}{STATE_SUFFIX}"


def _decoder_path(folder: Path, space: str) -> Path:
    return folder / f"{online_decoder_name(space)}{STATE_SUFFIX}"


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
