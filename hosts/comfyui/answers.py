"""Parts of the answers of all our routes."""

from aiohttp import web

# The address of a picture is its only key, because an <img> sends no header of ours. A browser may cache a picture
# forever: an address is never used again, and for a step that is reported twice the viewer adds its time to the URL. A
# picture that is missing now may exist a moment later.
CACHE_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
NEVER_CACHE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def refusal(status: int, why: str) -> web.Response:
    """An answer that refuses a request and says why. It is not cached."""
    return web.json_response({"error": why}, status=status, headers=NEVER_CACHE)
