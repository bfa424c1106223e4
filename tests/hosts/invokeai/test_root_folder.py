"""The command line finds InvokeAI's outputs."""

import pytest
from safelight.cli.main import main
from safelight.errors import PageError
from safelight.hosts.invokeai.root_folder import outputs_folder


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    for name in ("INVOKEAI_ROOT", "INVOKEAI_OUTPUTS_DIR", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))


def root_at(folder, settings=None, outputs="outputs"):
    (folder / outputs).mkdir(parents=True)
    if settings is not None:
        (folder / "invokeai.yaml").write_text(settings)
    return folder


def test_the_root_that_is_named_counts_first(tmp_path, monkeypatch):
    monkeypatch.setenv("INVOKEAI_ROOT", str(root_at(tmp_path / "other")))
    assert outputs_folder(root_at(tmp_path / "named")) == tmp_path / "named" / "outputs"
    assert outputs_folder() == tmp_path / "other" / "outputs"


def test_the_root_around_invokeais_environment_is_found_and_not_that_around_another(tmp_path, monkeypatch):
    home = root_at(tmp_path / "home" / "invokeai")
    around = root_at(tmp_path / "around")
    monkeypatch.setenv("VIRTUAL_ENV", str(around / ".venv"))
    assert outputs_folder() == home / "outputs"
    (around / "invokeai.yaml").write_text("schema_version: 4.0.2\n")
    assert outputs_folder() == around / "outputs"


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("outputs_dir: pictures", "pictures"),
        ("  outputs_dir:   'my pictures'   # of mine", "my pictures"),
        ('outputs_dir: "a#b"', "a#b"),
        ("outdir: old", "old"),
        ("# outputs_dir: pictures", "outputs"),
        ("my_outputs_dir: pictures", "outputs"),
    ],
)
def test_the_outputs_folder_of_the_settings_is_used(tmp_path, line, folder):
    root = root_at(tmp_path / "root", f"schema_version: 4.0.2\nport: 9090\n{line}\nhost: 0.0.0.0\n", outputs=folder)
    assert outputs_folder(root) == root / folder


def test_an_absolute_folder_and_the_variable_are_used(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = root_at(tmp_path / "root", f"outputs_dir: {elsewhere.as_posix()}\n")
    assert outputs_folder(root) == elsewhere
    monkeypatch.setenv("INVOKEAI_OUTPUTS_DIR", "outputs")
    assert outputs_folder(root) == root / "outputs"


def test_no_folder_is_an_error_that_says_what_to_do(tmp_path, capsys):
    with pytest.raises(PageError, match="expected InvokeAI's outputs folder, found no folder; name InvokeAI's root"):
        outputs_folder()
    assert main(["view", "--invokeai", str(tmp_path / "gone"), "--no-open"]) == 2
    assert "expected InvokeAI's outputs folder" in capsys.readouterr().err


def test_a_command_takes_a_folder_or_invokeai_and_not_both(tmp_path, capsys):
    for arguments in (["view"], ["view", str(tmp_path), "--invokeai"], ["index"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert "--invokeai" in capsys.readouterr().err


def test_runs_in_the_outputs_are_found(tmp_path, monkeypatch, capsys):
    root = root_at(tmp_path / "root")
    monkeypatch.setenv("INVOKEAI_ROOT", str(root))
    assert main(["index", "--invokeai"]) == 2
    assert f"{root / 'outputs'}: expected runs" in capsys.readouterr().err
