"""ComfyUI's server shows a choice to its owner only, and takes the answer only from the owner."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from safelight.hosts.comfyui.choice_routes import MAX_BODY_BYTES, register_choices
from safelight.hosts.comfyui.owners import KEY_HEADER, Owners
from safelight.preview.choice import PendingChoice, PendingChoices

KEY, OTHER = "the key of a browser", "the key of another one"
LIST = "/safelight/choices?workflow=w&node=4"


class Served:
    """One pending choice of two pictures, and requests to the routes that serve it."""

    def __init__(self):
        self.choices, self.owners = PendingChoices(), Owners()
        self.choice = PendingChoice([b"a", b"b"], self.owners.of(KEY), {"workflow": "w", "node": "4"}, 60)
        self.choices.add(self.choice)
        self.path = f"/safelight/choices/{self.choice.address}"

    def ask(self, path, key=KEY, body=None):
        """The status and the body of an answer."""
        return asyncio.run(self._ask(path, {KEY_HEADER: key} if key else {}, body))

    def answer(self):
        return self.choice.wait(self._give_up)

    def _give_up(self):
        raise TimeoutError

    async def _ask(self, path, headers, body):
        table = web.RouteTableDef()
        register_choices(table, self.choices, self.owners)
        register_choices(table, self.choices, self.owners)  # a second copy of the pack adds nothing
        app = web.Application()
        app.add_routes(table)
        method = "GET" if body is None else "POST"
        async with (
            TestClient(TestServer(app)) as client,
            client.request(method, path, headers=headers, data=body) as answer,
        ):
            content = await answer.read()
            return answer.status, json.loads(content) if answer.content_type == "application/json" else content


@pytest.fixture
def served():
    return Served()


def test_the_owner_sees_the_choice_and_makes_it(served):
    status, [listed] = served.ask(LIST)
    assert (status, listed["choice"], listed["count"]) == (200, served.choice.address, 2)
    assert served.ask(f"{served.path}/1.jpg") == (200, b"b")
    assert served.ask(served.path, body='{"chosen": [1, 0, 1]}') == (200, {"chosen": [0, 1]})
    assert served.answer() == [0, 1]
    assert served.ask(served.path, body='{"chosen": [0]}')[0] == 409


@pytest.mark.parametrize(("key", "status"), [(OTHER, 404), (None, 403), ("short", 403)])
def test_nobody_else_answers(served, key, status):
    assert served.ask(served.path, key, '{"chosen": [0]}')[0] == status
    with pytest.raises(TimeoutError):
        served.answer()


def test_nobody_else_lists_it(served):
    assert served.ask(LIST, OTHER) == (200, [])
    assert served.ask(LIST, None)[0] == 403
    assert served.ask("/safelight/choices?workflow=w&node=5") == (200, [])
    assert served.ask("/safelight/choices?workflow=w")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '{"chosen": [2]}',
        '{"chosen": [-1]}',
        '{"chosen": [0.0]}',
        '{"chosen": [true]}',
        "[" * 9999,
        json.dumps({"chosen": [0] * MAX_BODY_BYTES}),
    ],
)
def test_a_bad_answer_is_refused(served, body):
    assert served.ask(served.path, body=body)[0] == 400
    with pytest.raises(TimeoutError):
        served.answer()


@pytest.mark.parametrize("path", ["2.jpg", "-1.jpg", "0.png", "../0.jpg", "99999.jpg"])
def test_only_its_own_pictures_exist(served, path):
    assert served.ask(f"{served.path}/{path}")[0] == 404


def test_a_choice_that_is_made_has_no_pictures(served):
    served.choices.remove(served.choice)
    assert served.ask(f"{served.path}/0.jpg")[0] == 404
    assert served.ask(served.path, body='{"chosen": [0]}')[0] == 404
