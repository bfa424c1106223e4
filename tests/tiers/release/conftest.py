"""The packages that users download: a wheel in a new environment, and the pack of the Comfy Registry."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..comfyui.conftest import REPOSITORY, Server, Wiring, put_checkout, serving

GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
PROGRAMS = "Scripts" if os.name == "nt" else "bin"


def run(*command: object, cwd: Path, **variables: str) -> str:
    """Runs a program and returns its output, also that for errors. Fails if its exit code is not 0."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**environment, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel; `place` is an empty folder to work in."""

    folder: Path
    place: Path

    @property
    def python(self) -> Path:
        return self.folder / PROGRAMS / "python"

    @property
    def program(self) -> Path:
        return self.folder / PROGRAMS / "safelight"

    def safelight(self, *arguments: object) -> str:
        """Runs the installed program and returns its output."""
        return run(self.program, *arguments, cwd=self.place)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with the files that git tracks or would add, in a folder of another name."""
    place = tmp_path_factory.mktemp("checkout") / "a clone"
    place.mkdir()
    put_checkout(place)
    run(*GIT, "init", "--quiet", cwd=place)
    run(*GIT, "add", "--all", "--force", cwd=place)
    run(*GIT, "commit", "--quiet", "--message", "files", cwd=place)
    return place


@pytest.fixture(scope="session")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that a release publishes, built from the source distribution."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, checkout, cwd=out)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An environment with the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    installation = Installation(folder, tmp_path_factory.mktemp("place"))
    run(installation.python, "-m", "pip", "install", "--quiet", "--no-index", wheel, cwd=installation.place)
    return installation


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An environment with the wheel, and with the packages of this Python, but without its Safelight."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    installation = Installation(folder, tmp_path_factory.mktemp("place"))
    run(installation.python, "-m", "pip", "install", "--quiet", "--no-index", wheel, cwd=installation.place)
    # Files named .pth of that folder are not read again, so an editable Safelight in it is not found.
    own = run(
        installation.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=installation.place
    ).strip()
    Path(own, "packages-of-the-tests.pth").write_text(str(Path(pytest.__file__).parents[1]) + "\n", "utf-8")
    return installation


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs comfy-cli with a home folder of its own, without questions, and returns its output."""
    home = tmp_path_factory.mktemp("home")
    program = Path(os.environ["SAFELIGHT_COMFY_CLI"]).absolute()

    def call(*arguments: str, cwd: Path) -> str:
        # It calls ruff by name for its own checks.
        path = os.pathsep.join((str(program.parent), os.environ["PATH"]))
        return run(program, "--skip-prompt", *arguments, cwd=cwd, HOME=str(home), PATH=path)

    call("tracking", "disable", cwd=home)
    return call


@pytest.fixture(scope="session")
def pack(checkout: Path, comfy: Callable[..., str]) -> Path:
    """The file that `comfy node pack` creates."""
    comfy("node", "pack", cwd=checkout)
    return checkout / "node.zip"


@pytest.fixture(scope="session")
def pack_server(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real ComfyUI whose `custom_nodes` has the unpacked pack, and the models of the tests."""

    def unpack(place: Path) -> None:
        with zipfile.ZipFile(pack) as archive:
            archive.extractall(place)

    with serving(tmp_path_factory.mktemp("comfyui"), "safelight", put=unpack) as server:
        yield server


@pytest.fixture
def wire() -> Wiring:
    """Builds graphs with a stock sampler, a model of the tests and Preview Steps."""
    return Wiring()


@pytest.fixture
def example_script(tmp_path: Path) -> Callable[[str], Path]:
    """Copies an example script out of the repository."""
    return lambda name: Path(shutil.copy(REPOSITORY / "example_scripts" / name, tmp_path))
