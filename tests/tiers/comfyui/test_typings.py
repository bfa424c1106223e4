"""The stubs for the type checker name only what ComfyUI has."""

import os
import subprocess

from ... import older
from ...typed_names import missing_names_script, stub_modules
from .conftest import HOST, comfyui_version

# Names that only a newer ComfyUI than the tested one has; our code asks for them with `try`.
NEWER = {"comfy_api.latest.Previews", "comfy_execution.preview_generators.get_preview_generator"}


def test_comfyui_has_each_name_of_the_stubs():
    checkout, python = (os.environ[name] for name in HOST)
    modules = {name: names for name, names in stub_modules().items() if not name.startswith("invokeai")}
    begin = "import sys; sys.argv = ['main.py', '--cpu']; import comfy.options; comfy.options.enable_args_parsing()\n"
    script = begin + missing_names_script(modules)
    done = subprocess.run([python, "-c", script], cwd=checkout, capture_output=True, text=True)
    missing = {line.removeprefix("missing: ") for line in done.stdout.splitlines()} - NEWER
    problem = ", ".join(missing) or done.stderr.strip()[-300:]
    older.expect(done.returncode == 0 and not missing, "ComfyUI", comfyui_version(), problem)
    assert not missing
