"""InvokeAI's server gets the page with all runs."""

import sys
from types import SimpleNamespace

import pytest
from safelight.hosts.invokeai import library_page
from safelight.hosts.invokeai.library_page import PREFIX, SERVER_MODULE, SWITCH, address, apply_settings, is_wanted


class Routes(list):
    @property
    def paths(self):
        return [route.path for route in self]


class Server:
    """InvokeAI's FastAPI application. Its last route answers every path."""

    def __init__(self):
        self.router = SimpleNamespace(routes=Routes())
        for path in ("/api", ""):
            self.mount(path, None, name=path)

    def mount(self, path, app, name=None):
        self.router.routes.append(SimpleNamespace(path=path, app=app, name=name))

    def add_route(self, path, app, name=None, include_in_schema=True):
        assert not include_in_schema
        self.router.routes.append(SimpleNamespace(path=f"{path}=", app=app, name=name))


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (tmp_path / "safelight").mkdir()
    return SimpleNamespace(root_path=tmp_path, outputs_path=outputs, host="127.0.0.1", port=9090, multiuser=False)


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setitem(sys.modules, SERVER_MODULE, SimpleNamespace(app=server))
    return server


def test_the_page_comes_before_the_route_that_answers_every_path(config, server, caplog):
    caplog.set_level("INFO")
    apply_settings(config)
    assert server.router.routes.paths == [PREFIX, f"{PREFIX}=", "/api", ""]
    assert "the library of all runs: http://127.0.0.1:9090/safelight/" in caplog.text


def test_a_second_time_it_replaces_itself(config, server):
    apply_settings(config)
    first = server.router.routes[0].app
    apply_settings(config)
    assert server.router.routes.paths == [PREFIX, f"{PREFIX}=", "/api", ""]
    assert server.router.routes[0].app is not first


def test_it_is_removed_when_the_user_switches_it_off(config, server, tmp_path):
    apply_settings(config)
    (tmp_path / "safelight" / "settings.json").write_text('{"library": false}')
    apply_settings(config)
    assert server.router.routes.paths == ["/api", ""]


@pytest.mark.parametrize(("value", "wanted"), [("0", False), ("no", False), ("1", True)])
def test_the_variable_decides(config, monkeypatch, value, wanted):
    monkeypatch.setenv(SWITCH, value)
    assert is_wanted(config) is wanted


def test_with_accounts_there_is_no_page_even_if_it_is_switched_on(config, server, monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    config.multiuser = True
    apply_settings(config)
    assert server.router.routes.paths == ["/api", ""]


def test_without_a_server_nothing_happens(config, monkeypatch):
    monkeypatch.delitem(sys.modules, SERVER_MODULE, raising=False)
    assert apply_settings(config) is None
    assert library_page.running_server() is None


def test_a_server_of_another_form_costs_the_page_only(config, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, SERVER_MODULE, SimpleNamespace(app=object()))
    apply_settings(config)
    assert "safelight view shows them" in caplog.text


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"host": "0.0.0.0"}, "http://127.0.0.1:9090/safelight/"),
        ({"host": "::1", "ssl_certfile": "c.pem"}, "https://[::1]:9090/safelight/"),
        ({"base_url": "/invoke"}, "http://127.0.0.1:9090/invoke/safelight/"),
    ],
)
def test_the_address_is_that_of_invokeai(config, facts, expected):
    assert address(SimpleNamespace(**{**vars(config), **facts})) == expected
