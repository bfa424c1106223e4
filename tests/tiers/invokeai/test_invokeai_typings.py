"""The stubs for the type checker name only what InvokeAI has."""

import os
import subprocess

import pytest

from ...typed_names import missing_names_script, stub_modules


@pytest.mark.skipif("INVOKEAI_PYTHON" not in os.environ, reason="needs INVOKEAI_PYTHON")
def test_invokeai_has_each_name_of_the_stubs(tmp_path):
    modules = {name: names for name, names in stub_modules().items() if name.startswith("invokeai")}
    command = [os.environ["INVOKEAI_PYTHON"], "-c", missing_names_script(modules)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "INVOKEAI_ROOT": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("missing: ")] == []
