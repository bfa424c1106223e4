"""Finds, lists and removes the files of online learning.

    <folder>/<space>-learned-<vae>.safetensors     the decoder
    <folder>/learned/<space>-<vae>/                all else, of bounded size
        state.safetensors                          sums, test pairs, keys of seen latents
        pairs/                                     training pairs
        net.safetensors                            net in training, see `net_training`
        measured.json                              scores of all light decoders on the test pairs

`<vae>` is the fingerprint of the VAE: pairs of two VAEs are never mixed. If it is unknown, the decoder's name ends in
`unknown`, and the folder is named after the space only.

Earlier versions of Safelight learned for all VAEs of a space together. What they left stays until the user removes it;
the decoder can be used, and is compared with those that are learned now.

    <folder>/<space>-learned.safetensors           the decoder; its card names no VAE
    <folder>/learned/<space>.safetensors           the state, not used any more
"""

import errno
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, final

from ...decoders.decoder import Card
from ...decoders.files.decoder_file import read_card
from ...decoders.files.regular_file import NO_FOLLOW, NON_BLOCKING
from ...decoders.latents.space import SPACE_NAME
from ...decoders.measured_scores import LEARNED_FOLDER, learned_folder, read_measured
from ...errors import DecoderFileError, FitError
from ..vae_fingerprint import FINGERPRINT_DIGITS
from .pair_store import DEFAULT_STORE_BYTES, PAIRS_FOLDER, PairStore
from .state import ONLINE_SOURCE, OnlineState, online_decoder_name

STATE_FILE, NET_FILE, SUFFIX = "state.safetensors", "net.safetensors", ".safetensors"
EARLIER_DECODER = "-learned"
FINGERPRINT = re.compile(f"(?:[0-9a-f]{{{FINGERPRINT_DIGITS}}})?")  # empty if the VAE is unknown

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
        return self.folder / f"{online_decoder_name(self.space, self.vae)}{SUFFIX}"

    def pairs(self, max_bytes: int = DEFAULT_STORE_BYTES) -> PairStore:
        return PairStore(self.parent / PAIRS_FOLDER, max_bytes)

    def card(self) -> Card | None:
        """The card of the learned decoder; None if there is none, or if its file is another's."""
        card = _learned_card(self.decoder)
        return card if card and (card.space, card.vae) == (self.space, self.vae) else None

    def existing(self) -> list[Path]:
        """The files and folders that exist and may be removed."""
        return [*([self.parent] if self.parent.is_dir() else []), *([self.decoder] if self.card() else [])]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks what is learned in `folder`, see `learning_locked`."""
        with learning_locked(self.folder):
            yield


@final
@dataclass(frozen=True)
class EarlierFiles:
    """The files that an earlier Safelight learned for one latent space.

    Args:
        folder: folder of the user's decoders.
        space: name of the latent space.
    """

    folder: Path
    space: str

    @property
    def state(self) -> Path:
        return self.folder / LEARNED_FOLDER / f"{self.space}{SUFFIX}"

    @property
    def decoder(self) -> Path:
        return self.folder / f"{self.space}{EARLIER_DECODER}{SUFFIX}"

    def card(self) -> Card | None:
        card = _learned_card(self.decoder)
        return card if card and (card.space, card.vae) == (self.space, None) else None

    def existing(self) -> list[Path]:
        """The files that exist and may be removed."""
        return [*([self.state] if self.state.is_file() else []), *([self.decoder] if self.card() else [])]


@dataclass(frozen=True, kw_only=True)
class LearnedSpace:
    """A summary of online learning for one latent space and VAE.

    Args:
        space: name of the latent space.
        vae: fingerprint of the VAE; empty if unknown, None for the files of an earlier Safelight.
        state: content of the state file; None if there is none, or it cannot be read.
        pairs: number of saved training pairs.
        learned_db: PSNR of the learned decoder on the test pairs at latent size; None if it was not measured.
        decoder: path of the learned decoder; None if there is none.
        kind: kind of the learned decoder.
        file_bytes: size of all files.
        problem: reason why the state file cannot be read.
    """

    space: str
    vae: str | None
    state: OnlineState | None = None
    pairs: int = 0
    learned_db: float | None = None
    decoder: Path | None = None
    kind: str | None = None
    file_bytes: int = 0
    problem: str | None = None


@contextmanager
def learning_locked(folder: Path) -> Iterator[None]:
    """Locks what is learned in a folder of decoders against other threads and processes that learn or forget."""
    learned = folder / LEARNED_FOLDER
    learned.mkdir(parents=True, exist_ok=True)
    with _open_lock(learned / ".lock") as file:
        try:
            _lock(file)
        except OSError as error:  # a file system without locks: of two simultaneous decodes one may be lost
            log.debug("%s cannot be locked: %s", learned, error)
        # Left by a process that was ended: all others write only while they hold the lock.
        for partial in (*learned.rglob(".*.part"), *folder.glob(f".*{EARLIER_DECODER}-*.part")):
            with suppress(OSError):  # it is gone, or a folder
                partial.unlink()
        yield


def _open_lock(path: Path) -> BinaryIO:
    """Opens the file that is locked. Nothing is written to it; a pipe in its place does not wait, a link is refused."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | NON_BLOCKING | NO_FOLLOW, 0o666), "r+b", buffering=0)


def list_learned_files(folder: Path) -> list[LearnedFiles]:
    """Lists the spaces and VAEs with a state or a learned decoder."""
    parents = [path.name for path in (folder / LEARNED_FOLDER).glob("*") if path.is_dir()]
    found = {tuple(name.partition("-")[::2]) for name in parents}
    cards = map(_learned_card, folder.glob(f"*{EARLIER_DECODER}-*{SUFFIX}"))
    found |= {(card.space or "", card.vae) for card in cards if card and card.vae is not None}
    # A card may contain any text, also a path to another folder.
    return [
        LearnedFiles(folder, space, vae)
        for space, vae in sorted(found)
        if SPACE_NAME.fullmatch(space) and FINGERPRINT.fullmatch(vae)
    ]


def list_learned_spaces(folder: Path) -> list[LearnedSpace]:
    """Lists what was learned, by space and VAE, then what an earlier Safelight learned.

    Raises:
        OSError: a file cannot be read.
    """
    return [_summarize(files) for files in (*list_learned_files(folder), *_list_earlier_files(folder))]


def forget_space(folder: Path, space: str) -> list[Path]:
    """Removes what was learned for a space, from all VAEs; returns the removed files and folders.

    Raises:
        FitError: nothing was learned for a space of that name.
        OSError: a file cannot be removed.
    """
    known = [*list_learned_files(folder), *_list_earlier_files(folder)]
    if space not in {files.space for files in known}:
        names = ", ".join(sorted({files.space for files in known}))
        raise FitError(f"nothing was learned for {space!r} in {folder}; learned spaces: {names or 'none'}")
    removed = []
    with learning_locked(folder):
        for files in known:
            for path in files.existing() if files.space == space else ():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                removed.append(path)
    return removed


def _list_earlier_files(folder: Path) -> list[EarlierFiles]:
    names = [path.name.removesuffix(SUFFIX) for path in (folder / LEARNED_FOLDER).glob(f"*{SUFFIX}")]
    names += [path.name.removesuffix(EARLIER_DECODER + SUFFIX) for path in folder.glob(f"*{EARLIER_DECODER}{SUFFIX}")]
    found = [EarlierFiles(folder, name) for name in sorted(set(names)) if SPACE_NAME.fullmatch(name)]
    return [files for files in found if files.existing()]


def _summarize(files: LearnedFiles | EarlierFiles) -> LearnedSpace:
    card = files.card()
    contents = [inner for path in files.existing() for inner in (path, *path.rglob("*")) if inner.is_file()]
    state, problem, pairs, learned_db = None, None, 0, None
    if files.state.exists():
        try:
            state = OnlineState.load(files.state)
        except FitError as error:
            problem = str(error)
    if isinstance(files, LearnedFiles):
        pairs = len(files.pairs().list())
        measured = read_measured(files.folder, files.space, files.vae)
        learned_db = measured and measured.psnr_latent_db.get(online_decoder_name(files.space, files.vae))
        learned_db = learned_db or (state and state.comparison and state.comparison.learned_db)
    return LearnedSpace(
        space=files.space,
        vae=files.vae if isinstance(files, LearnedFiles) else None,
        state=state,
        pairs=pairs,
        learned_db=learned_db,
        decoder=files.decoder if card else None,
        kind=card and card.kind,
        file_bytes=sum(path.stat().st_size for path in contents),
        problem=problem,
    )


def _learned_card(path: Path) -> Card | None:
    """The card of a decoder that online learning wrote; None for another file, or none."""
    try:
        card = read_card(path)
    except DecoderFileError:
        return None
    return card if card.source == ONLINE_SOURCE else None


if sys.platform == "win32":
    import msvcrt

    def _wait_for_lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _wait_for_lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)


def _lock(file: IO[bytes]) -> None:
    """Locks a file when no other thread or process locks it."""
    while True:
        try:
            _wait_for_lock(file)
        except OSError as error:
            if error.errno != errno.EDEADLK:  # of Windows, which waits for ten seconds only
                raise
        else:
            return
