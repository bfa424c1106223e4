"""The rules of our own web servers: host names, origins, the key, and byte ranges."""

import socket

import pytest
from safelight.hosts.local_server import AccessRules, byte_range, usable_port

RULES = AccessRules()
KEY = RULES.key
OWN = {"host": ["127.0.0.1:8765"], "cookie": [f"key8765={KEY}"]}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8765", "localhost:1", "LOCALHOST", "[::1]:8765"])
def test_requests_to_this_machine_with_the_key_are_allowed(host):
    assert RULES.refusal("/runs", {**OWN, "host": [host]}) is None
    assert RULES.refusal(f"/?key={KEY}", {"host": [host]}) is None


@pytest.mark.parametrize(
    "host", ["example.com", "127.0.0.1.example.com", "localhost.example.com:80", "", "127.0.0.1@example.com", "0.0.0.0"]
)
def test_another_host_name_is_refused_even_with_the_key(host):
    assert "only under the address" in RULES.refusal("/", {**OWN, "host": [host]})


def test_none_or_two_host_names_are_refused():
    for hosts in ([], ["127.0.0.1", "localhost"]):
        assert RULES.refusal("/", {**OWN, "host": hosts}) is not None


def refused_hosts(rules, *hosts):
    headers = {"cookie": [f"key8765={rules.key}"]}
    return [host for host in hosts if rules.refusal("/", {**headers, "host": [host]}) is not None]


def test_a_host_that_the_user_chose_is_answered_and_no_other():
    rules = AccessRules("studio.local")
    assert refused_hosts(rules, "Studio.local:8765", "studio.local", "localhost:1", "10.0.0.7:8765") == []
    foreign = ["other.local:8765", "studio.local.example.com", "studio.local@example.com", "10.0.0.7.example.com"]
    assert refused_hosts(rules, *foreign) == foreign


@pytest.mark.parametrize("listens_on", ["0.0.0.0", "::", "192.168.1.5"])
def test_a_server_on_a_network_answers_to_this_machine_s_name_and_addresses_only(listens_on, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Studio.home")
    rules = AccessRules(listens_on)
    assert not rules.is_local
    own = ["studio.home:8765", "studio:1", "studio.local", "192.168.1.5:8765", "[fe80::1]:8765", "127.0.0.1"]
    assert refused_hosts(rules, *own) == []
    assert refused_hosts(rules, "example.com", "studio.example.com", "") == ["example.com", "studio.example.com", ""]


def test_a_server_on_this_machine_answers_to_no_other_address():
    assert AccessRules("localhost").is_local
    assert AccessRules("::1").is_local
    assert refused_hosts(AccessRules(), "192.168.1.5", "0.0.0.0:8765") == ["192.168.1.5", "0.0.0.0:8765"]


def test_a_name_that_is_known_later_can_be_added():
    rules = AccessRules()
    assert refused_hosts(rules, "abc.gradio.live") == ["abc.gradio.live"]
    rules.answer_to("ABC.gradio.live")
    assert refused_hosts(rules, "abc.gradio.live", "x.gradio.live") == ["x.gradio.live"]


def test_the_address_for_the_user_has_the_key_and_the_key_can_be_left_out_for_what_reveals_nothing():
    assert RULES.with_key("http://127.0.0.1:1/") == f"http://127.0.0.1:1/?key={KEY}"
    assert RULES.refusal("/", {"host": ["localhost"]}, needs_key=False) is None
    assert RULES.refusal("/", {"host": ["example.com"]}, needs_key=False) is not None


def test_a_port_that_is_in_use_is_not_usable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            usable_port("127.0.0.1", port)
    assert usable_port("localhost", 0) > 0
    with pytest.raises(OSError):  # noqa: PT011 - each system has its own words
        usable_port("203.0.113.1", 0)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/runs", {"cookie": []}),
        ("/", {"cookie": []}),
        ("/?key=", {"cookie": []}),
        ("/?key=wrong", {"cookie": ["key8765=wrong"]}),
        (f"/?key={KEY[:-1]}", {"cookie": [f"other={KEY}"]}),
        (f"/?other={KEY}", {"cookie": ["key8765=\x00"]}),
    ],
    ids=["none", "none at the start", "empty", "wrong", "cut", "under another name"],  # the key is random
)
def test_without_the_key_nothing_is_answered(path, headers):
    assert "the key is missing" in RULES.refusal(path, {**OWN, **headers})


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_is_refused_except_for_a_link_to_the_page(site):
    headers = {**OWN, "sec-fetch-site": [site]}
    assert "another site" in RULES.refusal("/runs", headers)
    assert "another site" in RULES.refusal("/", headers)
    assert RULES.refusal(f"/?key={KEY}", {**headers, "sec-fetch-mode": ["navigate"]}) is None


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
    assert cookie == f"key8765={KEY}; Path=/; HttpOnly; SameSite=Strict"


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


@pytest.mark.parametrize("path", ["//[", "http://[", "http://[x/?key=", "//[x?a=]"])
def test_a_path_that_is_no_url_is_refused_without_an_error(path):
    assert "the key is missing" in (RULES.refusal(path, {**OWN, "cookie": []}) or "")


@pytest.mark.parametrize("other", ['a={"x":1}', "foo bar=1", "\xfc=1", "a@b=1", "=x", "path", "expires=x", ""])
def test_cookies_of_other_servers_do_not_hide_the_key(other):
    for line in (f"{other}; key8765={KEY}", f"key8765={KEY}; {other}"):
        assert RULES.refusal("/runs", {**OWN, "cookie": [line]}) is None
    assert RULES.refusal("/runs", {**OWN, "cookie": [other]}) is not None
