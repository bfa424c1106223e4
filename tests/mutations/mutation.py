"""One mutation, and how it is applied to a copy of the repository."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TIER = re.compile(r"tests/tiers/(\w+)/")


class MutationError(Exception):
    """A mutation does not fit the code any more."""


class Mutation(NamedTuple):
    """A change that breaks a promise.

    Args:
        name: what is broken, in a few words.
        promise: title of the promise in the README, or a threat in the table of SECURITY.md.
        file: path of the changed file in the repository.
        old: text that occurs exactly once in the file.
        new: text in its place.
        noticed_by: paths of tests as pytest takes them. At least one of these tests must fail.
        also: further changes as `(file, old, new)`, if one alone changes nothing.
    """

    name: str
    promise: str
    file: str
    old: str
    new: str
    noticed_by: tuple[str, ...]
    also: tuple[tuple[str, str, str], ...] = ()

    @property
    def tier(self) -> str:
        """The tier of the tests that must notice it; `core` for the others."""
        found = {match[1] if (match := TIER.match(path)) else "core" for path in self.noticed_by}
        return found.pop() if len(found) == 1 else "several"

    def changed_files(self, root: Path) -> dict[Path, str]:
        """The content of each changed file, by its path in the copy `root`.

        Raises:
            MutationError: a file is missing, or a text does not occur exactly once.
        """
        contents: dict[Path, str] = {}
        for file, old, new in ((self.file, self.old, self.new), *self.also):
            path = root / file
            if not path.is_file():
                raise MutationError(f"{self.name}: there is no file {file}")
            content = contents.get(path) or path.read_text("utf-8")
            if (count := content.count(old)) != 1:
                raise MutationError(f"{self.name}: expected the text once in {file}, found it {count} times: {old!r}")
            contents[path] = content.replace(old, new)
        return contents
