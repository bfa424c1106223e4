"""The exception tree of the whole project.

    SafelightError
    ├── SpaceError
    │   ├── UnknownSpaceError       a name that no latent space has
    │   └── ContradictionError      evidence that no single latent space can satisfy
    ├── LatentsError                a tensor that does not fit the space it is said to be of
    ├── DecoderError
    │   ├── UnknownDecoderError     a request that no decoder at hand answers
    │   └── DecoderFileError        a file that is not a decoder
    │       ├── AlteredFileError    a shipped file whose bytes are not those in the manifest
    │       ├── PickledFileError    a file that only runs code could open
    │       └── MisshapenFileError  tensors that do not fit what the file says it is
    ├── FitError                    pictures or latents that no decoder can be fitted on
    └── RunError
        ├── ManifestError           a `run.json` that cannot be read
        ├── GoneError               a run, a step or a file that is asked for and not there (any more)
        ├── PageError               the viewer's page that cannot be made, or a folder without a run to serve
        └── SinkError               a place for pictures that cannot be opened or written
            └── StepError           one step that is lost, told when a later one was taken

Every message says what was expected, what came, and what to do next.
"""

from pathlib import PurePath


class SafelightError(Exception):
    """Anything Safelight refuses to do."""


class SpaceError(SafelightError):
    """A latent space cannot be told."""


class UnknownSpaceError(SpaceError):
    """No latent space has this name."""


class ContradictionError(SpaceError):
    """What a host says of its latents fits no single latent space."""


class LatentsError(SafelightError):
    """A tensor does not have the shape of its latent space."""


class DecoderError(SafelightError):
    """A decoder cannot be had."""


class UnknownDecoderError(DecoderError):
    """No decoder at hand answers the request."""


class DecoderFileError(DecoderError):
    """A file is not a decoder."""


class AlteredFileError(DecoderFileError):
    """A shipped file's bytes are not those in the manifest."""


class PickledFileError(DecoderFileError):
    """Opening the file would run code that is stored in it."""


class MisshapenFileError(DecoderFileError):
    """A file's tensors do not fit what it says it is."""


class FitError(SafelightError):
    """No decoder can be fitted on this."""


class RunError(SafelightError):
    """A run cannot be shown, kept or read."""


class ManifestError(RunError):
    """A `run.json` cannot be read."""


class GoneError(RunError):
    """What is asked of a run is not there, or no longer."""


class PageError(RunError):
    """A page with the viewer cannot be made or served."""


class SinkError(RunError):
    """A place for pictures cannot be opened or written."""


class StepError(SinkError):
    """A step that a sink took is lost.

    Args:
        step: its index.
        why: for people.
    """

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"step {step}: {why}")
        self.step = step


def brief(value: object, most: int = 120) -> str:
    """`value` for a message: paths and exceptions in their own words, anything else as Python writes it, cut short."""
    text = str(value) if isinstance(value, Exception | PurePath) else repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def describe(error: BaseException) -> str:
    """An exception in one line, for people."""
    try:
        said = str(error)
    except Exception:  # whoever wrote it never tried it
        said = ""
    return f"{type(error).__name__}: {said}".strip().splitlines()[0][:300]
