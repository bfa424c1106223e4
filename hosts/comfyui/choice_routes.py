"""The URLs under which ComfyUI serves choices that a prompt waits for."""

import json
from typing import Any

from aiohttp import web

from ...errors import brief
from ...preview.choice import PendingChoice, PendingChoices
from .answers import NEVER_CACHE, refusal
from .owners import KEY_HEADER, KEY_HELP, Owners

BASE = "/safelight/choices"
MAX_BODY_BYTES = 4096  # of an answer


def register_choices(routes: web.RouteTableDef, choices: PendingChoices, owners: Owners) -> None:
    """Adds `/safelight/choices/...` to the host's routes, unless another copy of this pack did.

    Only the browser that queued a prompt sees that it waits, and answers. The address of a choice opens its pictures,
    because an <img> sends no header.

    Args:
        routes: the host's routes.
        choices: choices that prompts wait for.
        owners: who may make them.
    """
    if any(getattr(route, "path", "").startswith(BASE) for route in routes):
        return

    @routes.get(BASE)
    async def list_choices(request: web.Request) -> web.Response:
        """The choices of a node in a workflow, for the browser that queued the prompt."""
        owner, node = owners.of(request.headers.get(KEY_HEADER)), request.query.get("node")
        if owner is None:
            return refusal(403, f"send {KEY_HELP}")
        if not node:
            return refusal(404, f"name the node: {BASE}?workflow=<id>&node=<id>")
        found = choices.of(owner, workflow=request.query.get("workflow") or None, node=node)
        return web.json_response([choice.facts() for choice in found], headers=NEVER_CACHE)

    @routes.get(BASE + r"/{choice}/{item:[0-9]{1,4}}.jpg")
    async def get_picture(request: web.Request) -> web.Response:
        """The picture of an item, from 0."""
        choice, item = choices.get(request.match_info["choice"]), int(request.match_info["item"])
        if choice is None or item >= len(choice.pictures):
            return refusal(404, "there is no such picture, or the choice is made")
        return web.Response(body=choice.pictures[item], headers={**NEVER_CACHE, "Content-Type": "image/jpeg"})

    _register_answers(routes, choices, owners)

    # Without this route the host adds a header to its 404 that lets a browser cache it for an hour.
    @routes.get(f"{BASE}/{{rest:.*}}")
    async def get_other(request: web.Request) -> web.Response:
        """Any other path."""
        return refusal(404, f"there is no such path: {brief(request.path)}")


def _register_answers(routes: web.RouteTableDef, choices: PendingChoices, owners: Owners) -> None:
    @routes.post(BASE + "/{choice}")
    async def post_answer(request: web.Request) -> web.Response:
        """Makes a choice: `{"chosen": [0, 3]}` are the indexes of the items that go on."""
        owner, choice = owners.of(request.headers.get(KEY_HEADER)), choices.get(request.match_info["choice"])
        if owner is None:
            return refusal(403, f"send {KEY_HELP}")
        if choice is None or choice.owner != owner:
            return refusal(404, "there is no such choice, it is made, or another browser queued its prompt")
        chosen = _chosen(await request.content.read(MAX_BODY_BYTES + 1), choice)
        if chosen is None:
            return refusal(400, f'expected {{"chosen": [...]}} with indexes below {len(choice.pictures)}')
        if not choice.answer(chosen):
            return refusal(409, "the choice is made")
        return web.json_response({"chosen": sorted(set(chosen))}, headers=NEVER_CACHE)


def _chosen(body: bytes, choice: PendingChoice) -> list[int] | None:
    """The indexes in an answer; None if it is none."""
    try:
        answer: Any = json.loads(body) if len(body) <= MAX_BODY_BYTES else None
    except (ValueError, RecursionError):
        return None
    chosen = answer.get("chosen") if isinstance(answer, dict) else None
    count = len(choice.pictures)
    valid = isinstance(chosen, list) and all(type(item) is int and 0 <= item < count for item in chosen)
    return chosen if valid else None
