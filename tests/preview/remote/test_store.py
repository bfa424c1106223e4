"""A store that fsspec opens: files, listings, errors without credentials."""

import builtins

import fsspec
import pytest
from safelight.errors import StoreError
from safelight.preview.remote.store import Store, StoredFile, expect_packages


class Broken(fsspec.AbstractFileSystem):
    """A file system whose every call raises the same error."""

    protocol = "broken"
    error: Exception = OSError("away")

    def _raise(self, *args, **kwargs):
        raise self.error

    pipe_file = cat_file = info = find = ls = open = makedirs = _raise


def test_a_written_file_can_be_read_and_is_listed(memory):
    store = Store.open("memory://bucket/runs")
    store.write("one/step_0001.png", b"picture")
    assert memory.cat_file("/bucket/runs/one/step_0001.png") == b"picture"
    assert store.read("one/step_0001.png", 100) == b"picture"
    listed = store.list()
    assert list(listed) == ["one/step_0001.png"]
    assert listed["one/step_0001.png"].size == 7


def test_another_version_has_another_text(memory):
    store = Store.open("memory://bucket/runs")
    store.write("run.json", b"1")
    before = store.list()["run.json"].version
    store.write("run.json", b"2")
    assert store.list()["run.json"].version != before


def test_only_files_of_the_folder_are_listed(memory):
    memory.pipe_file("/bucket/runs-of-others/run.json", b"x")
    memory.pipe_file("/bucket/run.json", b"x")
    store = Store.open("memory://bucket/runs")
    assert store.list() == {}
    assert store.is_empty()
    store.write("run.json", b"x")
    assert list(store.list()) == ["run.json"]
    assert not store.is_empty()


def test_folders_are_created_where_a_file_system_needs_them(tmp_path):
    store = Store.open(f"file://{tmp_path}/runs")
    assert store.is_empty()
    store.write("one/two/run.json", b"x")
    assert (tmp_path / "runs/one/two/run.json").read_bytes() == b"x"
    assert list(store.list()) == ["one/two/run.json"]


def test_the_folder_of_a_run_may_have_the_sign_of_a_chain_in_its_name(tmp_path):
    Store.open(f"file://{tmp_path}/cats::memory").write("run.json", b"x")
    assert (tmp_path / "cats::memory/run.json").read_bytes() == b"x"


def test_a_chain_of_addresses_opens_no_folder_of_this_machine(tmp_path):
    with pytest.raises(StoreError):
        Store.open(f"asyncwrapper://::file://{tmp_path}").write("run.json", b"x")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_too_large_is_not_read(memory):
    store = Store.open("memory://bucket")
    store.write("a", b"0123456789")
    assert store.read("a", 10) == b"0123456789"
    with pytest.raises(StoreError, match="a has more than 9 bytes"):
        store.read("a", 9)


def test_a_part_of_a_file_can_be_read(memory):
    store = Store.open("memory://bucket")
    store.write("a", b"0123456789")
    with store.open_file("a") as file:
        file.seek(5)
        assert file.read(2) == b"56"


@pytest.mark.parametrize("call", ["read", "open_file"])
def test_a_missing_file_is_an_error_for_good(memory, call):
    arguments = ("missing", 100) if call == "read" else ("missing",)
    with pytest.raises(StoreError, match="memory://bucket: FileNotFoundError") as caught:
        getattr(Store.open("memory://bucket"), call)(*arguments)
    assert caught.value.is_lasting


@pytest.mark.parametrize(
    ("error", "is_lasting"),
    [
        (OSError("away"), False),
        (TimeoutError("slow"), False),
        (RuntimeError("odd"), False),
        (ConnectionResetError("gone"), False),
        (PermissionError("forbidden"), True),
        (FileNotFoundError("no such bucket"), True),
        (type("NoCredentialsError", (Exception,), {})("no credentials"), True),
    ],
)
@pytest.mark.parametrize("call", ["write", "read", "open_file", "list"])
def test_every_error_of_a_file_system_is_a_store_error(error, is_lasting, call, monkeypatch):
    monkeypatch.setattr(Broken, "error", error)
    store = Store(Broken(), "/runs", "broken://runs")
    arguments = {"write": ("a", b"x"), "read": ("a", 100), "list": ()}.get(call, ("a",))
    with pytest.raises(StoreError, match=f"broken://runs: {type(error).__name__}: {error}") as caught:
        getattr(store, call)(*arguments)
    assert caught.value.is_lasting is is_lasting


def test_no_message_contains_a_credential(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment")
    files = Broken(key="access-of-an-option", client_kwargs={"aws_session_token": "token-of-an-option"})
    text = "refused secret-of-the-environment, access-of-an-option, token-of-an-option at http://host"
    monkeypatch.setattr(Broken, "error", OSError(text))
    with pytest.raises(StoreError) as caught:
        Store(files, "/runs", "broken://runs").write("a", b"x")
    assert str(caught.value) == "broken://runs: OSError: refused ***, ***, *** at http://host"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("403 for https://host/a?sig=pass%2Fof%2Bsettings", "403 for https://host/a?sig=***"),
        ("no proxy at http://me:word@proxy:3128/", "no proxy at http://***@proxy:3128/"),
        ("AccountKey=of-a-connection is wrong", "*** is wrong"),
        ("sftp://me@host:22/runs and a:b@c", None),
    ],
)
def test_no_message_contains_a_credential_in_another_form(monkeypatch, text, shown):
    """fsspec's settings are known before a file system is opened."""
    monkeypatch.setitem(fsspec.config.conf, "broken", {"secret": "pass/of+settings"})
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=of-a-connection")

    def refuse(address):
        raise OSError(text)

    monkeypatch.setattr(Broken, "_get_kwargs_from_urls", refuse)
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda _: Broken)
    with pytest.raises(StoreError) as caught:
        Store.open("broken://runs")
    assert str(caught.value) == f"broken://runs: OSError: {shown or text}"


def test_an_unknown_scheme_says_so():
    with pytest.raises(StoreError, match="nowhere:// is no address that fsspec knows"):
        expect_packages("nowhere://bucket/runs")


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    fsspec.register_implementation("without-package", "package_that_is_not_there.Files", errtxt="Install it")
    with pytest.raises(
        StoreError,
        match=r"need a package that is not installed \(ImportError: Install it\); run: pip install fsspec s3fs",
    ):
        expect_packages("without-package://bucket")


def test_without_fsspec_the_message_is_the_same(monkeypatch):
    import_module = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "fsspec":
            raise ModuleNotFoundError("No module named 'fsspec'")
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(StoreError, match=r"No module named 'fsspec'.*pip install fsspec s3fs") as caught:
        Store.open("s3://bucket/runs")
    assert caught.value.is_lasting


def test_a_stored_file_without_facts_has_a_version_all_the_same():
    from safelight.preview.remote.store import _stored_file

    assert _stored_file({}) == StoredFile(None, "None")
