"""Serves a page that runs a diffusers pipeline and shows every step, with FastAPI and a websocket.

    pip install fastapi uvicorn websockets
    python serve_steps_over_a_websocket.py stable-diffusion-v1-5/stable-diffusion-v1-5

Then open the address that it prints. The first argument goes to `DiffusionPipeline.from_pretrained`: a folder, or a
name on the Hub. Several browsers take turns. If a browser leaves, its run ends.
"""

import argparse
import io
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from PIL import Image
from safelight.hosts.access_gate import AccessGate
from safelight.hosts.gradio.background_call import previews
from safelight.hosts.local_server import LOOPBACK, AccessRules

PAGE = """<!doctype html><meta charset="utf-8"><title>Steps</title>
<form><input name="prompt" placeholder="a lighthouse at dusk" size="40"> <button>Generate</button></form>
<img alt="newest step" style="width: 512px">
<script>
const form = document.querySelector("form"), image = document.querySelector("img")
let socket
form.onsubmit = (event) => {
  event.preventDefault()
  socket?.close()
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/steps`)
  socket.onopen = () => socket.send(form.prompt.value)
  socket.onmessage = ({ data }) => {
    URL.revokeObjectURL(image.src)
    image.src = URL.createObjectURL(data)
  }
}
</script>"""


PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob:; connect-src ws: wss:"
)


def create_app(pipe: Any, rules: AccessRules, steps: int = 20) -> FastAPI:
    """Returns the server of a pipeline.

    Args:
        pipe: a `DiffusionPipeline` of diffusers.
        rules: who may use the server: not the pages of other sites, not other accounts of this machine.
        steps: number of steps.
    """
    app = FastAPI()
    app.add_middleware(AccessGate, rules=rules, page_policy=PAGE_POLICY)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return PAGE

    @app.websocket("/steps")
    async def send_steps(socket: WebSocket) -> None:
        """Receives a prompt; sends a JPEG for each step, and the final image as the last one."""
        await socket.accept()
        pictures = None
        try:
            prompt = await socket.receive_text()
            pictures = previews(pipe, prompt, num_inference_steps=steps)
            # A generator in a thread: the server goes on with other requests while the model samples.
            while (picture := await run_in_threadpool(next, pictures, None)) is not None:
                await socket.send_bytes(jpeg_of(picture))
            await socket.close()
        except WebSocketDisconnect:
            pass  # the browser left
        finally:
            if pictures is not None:
                await run_in_threadpool(pictures.close)  # stops the pipeline, if it still runs

    return app


def jpeg_of(picture: Image.Image) -> bytes:
    """Returns the picture as a JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    """Serves the pipeline that the command line names."""
    import torch
    import uvicorn
    from diffusers import DiffusionPipeline

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline", help="folder of a pipeline, or its name on the Hub")
    parser.add_argument("--steps", type=int, default=20, help="number of steps (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port of the server (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="%(default)s")
    arguments = parser.parse_args()
    dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
    pipe = DiffusionPipeline.from_pretrained(arguments.pipeline, torch_dtype=dtype).to(arguments.device)
    rules = AccessRules()
    print(f"Open {rules.with_key(f'http://{LOOPBACK}:{arguments.port}/')}")
    uvicorn.run(create_app(pipe, rules, arguments.steps), host=LOOPBACK, port=arguments.port, access_log=False)


if __name__ == "__main__":
    main()
