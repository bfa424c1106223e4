"""Addresses of stores: which texts are some, and what is refused."""

from pathlib import Path

import pytest
from safelight.errors import OptionError
from safelight.preview.remote.address import checked_address, is_address, place_of, setting_address


@pytest.mark.parametrize("text", ["s3://bucket/runs", "memory://runs", "gs://b", "sftp://host/x", "file:///runs"])
def test_a_text_with_a_scheme_is_an_address(text):
    assert is_address(text)
    assert place_of(text) == text


@pytest.mark.parametrize("text", ["runs", "/srv/runs", "C:\\runs", "c://runs", "s3:/bucket", "a b://x", "", "~/runs"])
def test_any_other_text_is_a_path(text):
    assert not is_address(text)
    assert place_of(text) == Path(text)


def test_a_path_object_is_never_an_address():
    assert not is_address(Path("s3://bucket"))


def test_slashes_and_blanks_at_the_end_are_removed():
    assert checked_address(" s3://bucket/runs// ", "out") == "s3://bucket/runs"


def test_a_user_name_is_allowed():
    assert checked_address("sftp://me@host/runs", "out") == "sftp://me@host/runs"


@pytest.mark.parametrize("text", ["runs", "s3://", "bucket/runs", "://x"])
def test_a_text_that_names_no_place_is_refused(text):
    with pytest.raises(OptionError, match="out: expected an address such as s3://bucket/runs"):
        checked_address(text, "out")


@pytest.mark.parametrize(
    "text",
    [
        "sftp://me:hunter2@host/runs",
        "s3://AKIA:hunter2@bucket/runs",
        "az://box/runs?sig=hunter2",
        "s3://bucket/#hunter2",
        "sftp://[hunter2@x/runs",
    ],
)
def test_an_address_with_something_secret_is_refused_and_not_repeated(text):
    with pytest.raises(OptionError, match=r"Safelight\.Remote: expected a \w+:// address without a password") as caught:
        checked_address(text, "Safelight.Remote")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["asyncwrapper://::file:///srv/runs", "simplecache://x::file:///srv", "zip://a::local://b"]
)
def test_a_chain_of_addresses_is_refused(text):
    """The second address would be a folder of this machine, which people who use a host must not choose."""
    for check in (checked_address, setting_address):
        with pytest.raises(OptionError, match=r"Safelight\.Remote: expected one \w+:// address, got several"):
            check(text, "Safelight.Remote")
