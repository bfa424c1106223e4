"""The pack of the Comfy Registry: comfy-cli accepts it, and it runs in a ComfyUI that has nothing else of Safelight."""

import json
import zipfile

from ...test_packed_files import is_packed
from .conftest import run


def test_comfy_cli_finds_no_fault(checkout, comfy):
    output = comfy("node", "validate", cwd=checkout)
    assert "All validation checks passed" in output
    assert "Warning" not in output


def test_the_pack_has_the_files_that_the_core_tests_expect(checkout, pack):
    with zipfile.ZipFile(pack) as archive:
        names = set(archive.namelist())
    tracked = run("git", "ls-files", cwd=checkout).splitlines()
    assert names == {path for path in tracked if is_packed(path)}


def test_a_real_comfyui_records_every_step_with_the_pack(pack_server, wire):
    played = pack_server.play(wire(preview={"write_intermediates": True}))
    assert played.ends == ["execution_success"]
    (folder,) = (pack_server.output / "safelight").iterdir()
    manifest = json.loads((folder / "run.json").read_text("utf-8"))
    assert manifest["state"] == "finished"
    assert [step["files"] for step in manifest["steps"]] == [[f"step_{index:04}.png"] for index in (1, 2, 3, 4)]
    assert manifest["notes"] == []


def test_the_page_gets_its_scripts_texts_and_workflows(pack_server):
    assert "/extensions/safelight/comfy.js" in pack_server.get("/extensions").json()
    assert pack_server.get("/extensions/safelight/docs/SafelightPreview.md").status == 200
    assert "SafelightPreview" in pack_server.get("/i18n").json()["en"]["nodeDefs"]
    assert "01 See every step" in pack_server.get("/api/workflow_templates").json()["safelight"]


def test_the_log_of_the_start_has_no_warning_of_ours(pack_server):
    lines = [line for line in pack_server.log.splitlines() if "safelight" in line.lower()]
    assert [line for line in lines if "warn" in line.lower() or "error" in line.lower() or "FAILED" in line] == []
