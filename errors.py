"""All exceptions that Safelight raises.

    SafelightError
    ├── SpaceError
    │   ├── UnknownSpaceError       no latent space has the requested name
    │   └── ContradictionError      the facts that a host gives match no single latent space
    ├── LatentsError                a tensor does not fit its latent space
    ├── DecoderError
    │   ├── UnknownDecoderError     no available decoder matches the request
    │   └── DecoderFileError        a file is not a decoder
    │       ├── AlteredFileError    a shipped file differs from its entry in the manifest
    │       ├── EncoderFileError    a file is an encoder, which other nodes may need
    │       ├── PickledFileError    a file can be opened only by running code that it contains
    │       └── MisshapenFileError  the tensors of a file do not match its description
    ├── DownloadError               a published decoder cannot be downloaded
    ├── OptionError                 an option has a value that is not allowed
    ├── FitError                    no decoder can be fitted on the given images or latents
    ├── LostProcessError            another process of the same fit ended, or does not answer
    └── RunError
        ├── ManifestError           a `run.json` cannot be read
        ├── GoneError               a requested run, step or file does not exist, or not any more
        ├── LibraryError            a run in a library cannot be changed, deleted or restored
        ├── PageError               the viewer's page cannot be created or served
        ├── StoreError              a store of runs, such as a bucket, cannot be opened, read or written
        └── SinkError               a sink cannot be opened or written

Every message says what was expected, what came, and what to do next.
"""

from pathlib import PurePath


class SafelightError(Exception):
    """Base class of all errors that Safelight raises. Its text is one line: names in it may come from any file."""

    def __str__(self) -> str:
        return printable(super().__str__())


class SpaceError(SafelightError):
    """The latent space cannot be determined."""


class UnknownSpaceError(SpaceError):
    """No latent space has this name."""


class ContradictionError(SpaceError):
    """The facts that a host gives about its latents match no single latent space."""


class LatentsError(SafelightError):
    """A tensor does not have the shape of its latent space."""


class DecoderError(SafelightError):
    """A decoder is not available, or failed."""


class UnknownDecoderError(DecoderError):
    """No available decoder matches the request."""


class DecoderFileError(DecoderError):
    """A file is not a decoder."""


class AlteredFileError(DecoderFileError):
    """A shipped file differs from its entry in the manifest."""


class EncoderFileError(DecoderFileError):
    """A file is an encoder, which other nodes may need."""


class PickledFileError(DecoderFileError):
    """A file can be opened only by running code that it contains."""


class MisshapenFileError(DecoderFileError):
    """The tensors of a file do not match its description."""


class DownloadError(SafelightError):
    """A published decoder cannot be downloaded."""


class OptionError(SafelightError, ValueError):
    """An option has a value that is not allowed."""


class FitError(SafelightError):
    """No decoder can be fitted on the given images or latents."""


class LostProcessError(SafelightError):
    """Another process of the same fit ended, or does not answer."""


class RunError(SafelightError):
    """A run cannot be shown, saved or read."""


class ManifestError(RunError):
    """A `run.json` cannot be read."""


class GoneError(RunError):
    """A requested run, step or file does not exist, or not any more."""


class LibraryError(RunError):
    """A run in a library cannot be changed, deleted or restored."""


class PageError(RunError):
    """The viewer's page cannot be created or served."""


class StoreError(RunError):
    """A store of runs, such as a bucket, cannot be opened, read or written.

    Args:
        text: what happened, without credentials.
        is_lasting: whether the same happens at the next try.
    """

    def __init__(self, text: str, *, is_lasting: bool = False) -> None:
        super().__init__(text)
        self.is_lasting = is_lasting


class SinkError(RunError):
    """A sink cannot be opened or written."""


def printable(text: str) -> str:
    """Replaces line breaks, terminal sequences and marks that reverse the direction of text by Python's escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def brief(value: object, most: int = 120) -> str:
    """Shortens `value` for a message, to at most `most` characters.

    Paths and exceptions are converted with `str`, all other values with `repr`.
    """
    text = printable(str(value)) if isinstance(value, Exception | PurePath) else repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def describe(error: BaseException) -> str:
    """Describes an exception in one line, for the user."""
    try:
        text = str(error)
    except Exception:  # the `__str__` of an exception from another package may itself fail
        text = ""
    return printable(f"{type(error).__name__}: {text}".strip().splitlines()[0])[:300]
