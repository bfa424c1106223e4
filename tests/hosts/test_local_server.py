"""The rules of our own web servers: host names, origins, the key, and byte ranges."""

import pytest
from safelight.hosts.local_server import AccessRules, byte_range

RULES = AccessRules(key="secret")
OWN = {"host": ["127.0.0.1:8765"], "cookie": ["key8765=secret"]}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8765", "localhost:1", "LOCALHOST", "[::1]:8765"])
def test_requests_to_this_machine_with_the_key_are_allowed(host):
    assert RULES.refusal("/runs", {**OWN, "host": [host]}) is None
    assert RULES.refusal("/?key=secret", {"host": [host]}) is None


@pytest.mark.parametrize(
    "host", ["example.com", "127.0.0.1.example.com", "localhost.example.com:80", "", "127.0.0.1@example.com", "0.0.0.0"]
)
def test_another_host_name_is_refused_even_with_the_key(host):
    assert "only under the address" in RULES.refusal("/", {**OWN, "host": [host]})


def test_none_or_two_host_names_are_refused():
    for hosts in ([], ["127.0.0.1", "localhost"]):
        assert RULES.refusal("/", {**OWN, "host": hosts}) is not None


def test_a_host_that_the_user_chose_is_answered_and_no_other():
    rules = AccessRules(["studio.local"], key="secret")
    assert rules.refusal("/", {**OWN, "host": ["Studio.local:8765"]}) is None
    assert rules.refusal("/", {**OWN, "host": ["other.local:8765"]}) is not None


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/runs", {"cookie": []}),
        ("/", {"cookie": []}),
        ("/?key=", {"cookie": []}),
        ("/?key=wrong", {"cookie": ["key8765=wrong"]}),
        ("/?key=secre", {"cookie": ["other=secret"]}),
        ("/?other=secret", {"cookie": ["key8765=\x00"]}),
    ],
)
def test_without_the_key_nothing_is_answered(path, headers):
    assert "the key is missing" in RULES.refusal(path, {**OWN, **headers})


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_is_refused_except_for_a_link_to_the_page(site):
    headers = {**OWN, "sec-fetch-site": [site]}
    assert "another site" in RULES.refusal("/runs", headers)
    assert "another site" in RULES.refusal("/", headers)
    assert RULES.refusal("/?key=secret", {**headers, "sec-fetch-mode": ["navigate"]}) is None


@pytest.mark.parametrize("origin", ["http://example.com", "null", "http://127.0.0.1:1", "file://"])
def test_another_origin_is_refused(origin):
    assert "another site" in RULES.refusal("/runs", {**OWN, "origin": [origin]})
    assert RULES.refusal("/runs", {**OWN, "origin": ["http://127.0.0.1:8765"]}) is None


def test_each_server_has_its_own_key_that_cannot_be_guessed():
    keys = {AccessRules().key for _ in range(20)}
    assert len(keys) == 20
    assert min(map(len, keys)) >= 32


def test_the_cookie_is_for_this_server_and_no_script_reads_it():
    cookie = RULES.cookie(8765)
    assert cookie == "key8765=secret; Path=/; HttpOnly; SameSite=Strict"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=0-", (0, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=3-99", (3, 10)),
        ("bytes=-4", (6, 10)),
        ("bytes=-99", (0, 10)),
    ],
)
def test_a_range_is_read_as_the_standard_says(header, expected):
    assert byte_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=5-4", "bytes=-0", "bytes=99-100"])
def test_a_range_outside_the_file_is_an_error(header):
    with pytest.raises(ValueError, match="outside a file of 10 bytes"):
        byte_range(header, 10)
