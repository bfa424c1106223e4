"""A decoder that grows with what a host decodes anyway.

Every decode of a VAE is a pair: latents, and the picture they stand for. Three of four pairs go into the sums of least
squares, the fourth is held back to judge by. As soon as a solution shows more of those than what is in use, and than
what was learned before, it is written as a decoder file, and `auto` takes it by its merit.

    <folder>/<space>-learned.safetensors     the decoder
    <folder>/learned/<space>.safetensors     all that is known of the space: one file, of bounded size
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch

from ...decoders.catalogue import WITHOUT_WEIGHTS, Candidate, Catalogue
from ...decoders.decoder import Decoder
from ...decoders.files.decoder_file import read_card, read_decoder, write_decoder
from ...decoders.latents.identify import UNKNOWN, Evidence
from ...decoders.latents.space import LatentSpace
from ...decoders.ranking import LIGHT, gain_db
from ...errors import DecoderFileError, FitError, SafelightError
from .state import SOURCE, Comparison, DecodedPair, NewerError, OnlineState, decoder_name

SUFFIX, DAMAGED = ".safetensors", ".damaged"
FEWEST_HELD = 2
MARGIN_DB = 0.1  # of a few pictures; less is chance

log = logging.getLogger("safelight.fitting")


@dataclass(frozen=True, kw_only=True)
class LearnedRow:
    """What is known of one space, for people.

    Args:
        space: its name.
        file_bytes: that its file takes.
        learned: what is in the file; None where there is none, or it cannot be read.
        decoder: of a learned decoder that is at hand, the file.
        problem: why the file cannot be read.
    """

    space: str
    file_bytes: int = 0
    learned: OnlineState | None = None
    decoder: Path | None = None
    problem: str | None = None


@torch.no_grad()
def learn(
    folder: Path, space: LatentSpace, lesson: DecodedPair, catalogue: Catalogue, evidence: Evidence | None = None
) -> str | None:
    """Adds a decode to what is known of `space`, and sees to it that the best decoder is at hand.

    Args:
        folder: of the user's decoders.
        space: of the latents; one that Safelight has no row for travels with the decoder.
        lesson: the decode.
        catalogue: the decoders at hand, those in `folder` among them.
        evidence: what the host knows; its own table is what is in use where nothing else is.

    Returns:
        What changed, for people; None where nothing did.

    Raises:
        FitError: the decode teaches nothing: it is not finite, of another space, or of a space without a name.
        OSError: something cannot be read or written.
    """
    if space.name == UNKNOWN:
        raise FitError("a latent space without a name cannot be told from others: nothing is learned of it")
    path = _knowledge(folder, space.name)
    with _alone(path.parent):
        learned = _opened(path, space)
        if not learned.add(lesson):
            return None
        try:
            return _offer(learned, folder, catalogue, evidence)
        finally:
            learned.save(path)


def inspect(folder: Path) -> list[LearnedRow]:
    """What is known of every space, by name.

    Raises:
        OSError: a file cannot be read.
    """
    return [_row(folder, space) for space in _spaces(folder)]


def reset(folder: Path, space: str) -> list[Path]:
    """Forgets a space: removes what is known of it, and the decoder that was learned; the files that were there.

    Raises:
        FitError: nothing was learned of a space of that name.
        OSError: a file cannot be removed.
    """
    if space not in (known := _spaces(folder)):
        raise FitError(f"nothing was learned of {space!r} in {folder}; there is: {', '.join(known) or 'nothing'}")
    knowledge, decoder = _knowledge(folder, space), _decoder(folder, space)
    with _alone(knowledge.parent):
        removed = [file for file in (knowledge, knowledge.with_suffix(DAMAGED)) if file.is_file()]
        removed += [decoder] if _is_learned(decoder) else []
        for file in removed:
            file.unlink()
    return removed


def _spaces(folder: Path) -> list[str]:
    """The names of the spaces that something is known of."""
    known = {path.stem for suffix in (SUFFIX, DAMAGED) for path in (folder / "learned").glob(f"*{suffix}")}
    decoders = {path for path in folder.glob(f"*-learned{SUFFIX}") if _is_learned(path)}
    return sorted(known | {path.stem.removesuffix("-learned") for path in decoders})


def _row(folder: Path, space: str) -> LearnedRow:
    path, decoder = _knowledge(folder, space), _decoder(folder, space)
    row = LearnedRow(space=space, decoder=decoder if _is_learned(decoder) else None)
    if not path.exists():
        return row
    row = replace(row, file_bytes=path.stat().st_size)
    try:
        return replace(row, learned=OnlineState.load(path))
    except FitError as error:
        return replace(row, problem=str(error))


def _offer(learned: OnlineState, folder: Path, catalogue: Catalogue, evidence: Evidence | None) -> str | None:
    """Judges what can be learned beside what is at hand, and writes or removes the learned decoder; tells what it did.

    What is at hand is judged without the learned one, which else would be its own rival.
    """
    if len(learned.held) < FEWEST_HELD:
        return None
    path = _decoder(folder, learned.space.name)
    if path.exists() and not _is_learned(path):
        return f"{path}: was made by something else and is left alone; rename it, and what is learned can be used"
    if (scores := _rivals(learned, catalogue, evidence)) is None:
        return None
    in_use, beside = scores
    now = _present(path, learned.space)
    now_db = learned.psnr_db(now) if now else -torch.inf
    solved = [(learned.psnr_db(decoder), decoder) for decoder in learned.solutions()]
    new_db, new = max(solved, key=lambda one: one[0], default=(-torch.inf, None))
    best_db, best = (new_db, new) if new_db > now_db + MARGIN_DB else (now_db, now)
    in_use_db = beside[in_use.name]
    learned.verdict = Comparison(
        judged_on=learned.judged_on,
        learned_db=max(best_db, new_db) if best or new else None,
        in_use=in_use.name,
        in_use_db=in_use_db,
    )
    found = f"{best_db:.1f} dB, {in_use.name} {in_use_db:.1f} on {learned.judged_on}"
    if best is not None and best_db > in_use_db + MARGIN_DB:
        if best is now and (gain_db(best.card, in_use.card) or 0) > 0:
            return None
        # Those that came after it was written are told, too: `auto` compares only what was.
        metrics = {
            "psnr_latent_db": best_db,
            "judged_on": learned.judged_on,
            "beside": {name: {"psnr_latent_db": db} for name, db in beside.items()},
        }
        write_decoder(path, replace(best.card, metrics=metrics), best.net.state_dict())
        return f"{path.stem}: auto takes it from the next run on: {found}; fitted on {best.card.fitted_on}"
    if path.exists() and now_db < in_use_db:
        path.unlink()
        return f"{path.stem}: removed, it has fallen behind: {now_db:.1f} dB, {in_use.name} {in_use_db:.1f}"
    return None


def _present(path: Path, space: LatentSpace) -> Decoder | None:
    """The decoder that was learned before; None where there is none, a broken one, or one of other numbers."""
    if not path.exists():
        return None
    try:
        decoder = read_decoder(path, path.read_bytes())
    except DecoderFileError as error:
        log.warning("%s", error)
        return None
    same = decoder.net.channels == space.channels and (decoder.card.latent_space or space).values == space.values
    return decoder if same else None


def _rivals(
    learned: OnlineState, catalogue: Catalogue, evidence: Evidence | None
) -> tuple[Candidate, dict[str, float]] | None:
    """What `auto` takes on a CPU where nothing was learned, and what it and other light ones score by their names.

    None where that is more than light: something light that is learned would take its place, and is hardly better.
    """
    space, own = learned.space, decoder_name(learned.space.name)
    at_hand = [c for c in catalogue.of(space) if c.name != own]
    light = [c for c in at_hand if c.card.cost <= LIGHT]
    # Without the user's folders: what ships, the host's own table, what works without weights.
    light += [c for c in Catalogue().candidates(space, evidence=evidence) if c.card.cost <= LIGHT]
    scores: dict[str, float] = {}
    in_use = None
    for candidate in light:
        if candidate.name in scores:
            continue
        try:
            scores[candidate.name] = learned.psnr_db(candidate.open())
        except (SafelightError, RuntimeError) as error:  # auto passes it by as well
            log.debug("%s is not judged: %s", candidate.name, error)
            continue
        if in_use is None or (gain_db(candidate.card, in_use.card) or 0) > 0:
            in_use = candidate
    if in_use is None or (in_use.card.kind in WITHOUT_WEIGHTS and len(at_hand) > 0):
        return None
    return in_use, scores


def _opened(path: Path, space: LatentSpace) -> OnlineState:
    """What is known of `space`; what cannot be gone on with is moved aside, and learning begins anew.

    Raises:
        NewerError: a newer version wrote it.
    """
    if not path.exists():
        return OnlineState(space)
    try:
        learned = OnlineState.load(path)
        if learned.space.values != space.values:
            raise FitError(f"{path}: was learned of another space that was called {space.name}")
    except NewerError:
        raise
    except FitError as error:
        aside = path.with_suffix(DAMAGED)
        path.replace(aside)
        log.warning("%s; moved to %s, learning begins anew", error, aside.name)
        return OnlineState(space)
    return learned


def _is_learned(path: Path) -> bool:
    try:
        return read_card(path).source == SOURCE
    except DecoderFileError:
        return False


def _knowledge(folder: Path, space: str) -> Path:
    return folder / "learned" / f"{space}{SUFFIX}"


def _decoder(folder: Path, space: str) -> Path:
    return folder / f"{decoder_name(space)}{SUFFIX}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other thread or process learns or forgets in `folder` meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("ab") as file:
        try:
            _lock(file)
        except OSError as error:  # a file system without locks: of two at once one may be lost, but nothing damaged
            log.debug("%s cannot be locked: %s", folder, error)
        for half_written in folder.glob(".*.part"):  # by a process that was ended
            half_written.unlink(missing_ok=True)
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
