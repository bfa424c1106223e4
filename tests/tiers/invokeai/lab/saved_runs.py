"""Loads and continues saved runs in a real InvokeAI: `python saved_runs.py PACK WORKPLACE`."""

import json
import subprocess
import sys

from drive import HERE, PACK, PLACE, ROOT, Server, edge, graph_of, names

TWIN = "safelight_denoise_latents"
STEPS = 5


def sampled(server: Server, model: dict, scheduler: str, prefix: str, **settings) -> dict:
    """The digest of the latents of a run whose steps are saved."""
    graph = graph_of(
        model,
        TWIN,
        steps=STEPS,
        scheduler=scheduler,
        write_intermediates=True,
        keep_latents=True,
        filename_prefix=prefix,
        **settings,
    )
    item = server.wait(server.queue(graph))
    assert item["status"] == "completed", item.get("error_traceback")
    return server.latents(item, "denoise") | {"folder": server.result(item, "denoise")["run_folder"]}


def continued(server: Server, model: dict, scheduler: str, folder: str, step: int, denoise: str) -> dict:
    """The digest of the latents of a run that continues from a step, or the error."""
    graph = graph_of(model, denoise, scheduler=scheduler)
    del graph["nodes"]["noise"]
    graph["nodes"]["begin"] = {"id": "begin", "type": "safelight_continue", "folder": folder, "step": step}
    graph["edges"] = [link for link in graph["edges"] if link["source"]["node_id"] != "noise"]
    graph["edges"] += [edge("begin", name, "denoise", name) for name in ("latents", "denoising_start", "steps")]
    item = server.wait(server.queue(graph))
    if item["status"] != "completed":
        return {"error": item["error_message"]}
    return server.latents(item, "denoise")


def loaded(server: Server, model: dict, folder: str, step: int) -> dict:
    """What Load Run gives: its images' sizes, the decode of its latents by the VAE, its summary."""
    nodes = {
        "run": {"id": "run", "type": "safelight_load_run", "folder": folder, "step": step},
        "model": graph_of(model, TWIN)["nodes"]["model"],
        "vae": {"id": "vae", "type": "l2i", "fp32": True},
    }
    edges = [edge("run", "latents", "vae", "latents"), edge("model", "vae", "vae", "vae")]
    item = server.wait(server.queue({"id": "load", "nodes": nodes, "edges": edges}))
    if item["status"] != "completed":
        return {"error": item["error_message"]}
    result = server.result(item, "run")
    return {
        "images": len(result["collection"]),
        "latents": server.latents(item, "run"),
        "summary": result["summary"],
        "decoded": server.picture(item, "vae").size,
    }


def loaded_alone(server: Server, folder: str) -> dict:
    """The same of a run without latents, whose output is not connected."""
    nodes = {"run": {"id": "run", "type": "safelight_load_run", "folder": folder, "max_images": 2}}
    item = server.wait(server.queue({"id": "load", "nodes": nodes, "edges": []}))
    result = server.result(item, "run") if item["status"] == "completed" else {"collection": []}
    return {"status": item["status"], "images": len(result["collection"])}


def main() -> None:
    (ROOT / "nodes").mkdir(parents=True)
    (ROOT / "nodes" / "comfy-safelight-preview").symlink_to(PACK)
    subprocess.run([sys.executable, HERE / "tiny_sd1.py", ROOT / "tiny-sd1"], check=True, capture_output=True)
    seen: dict = {}
    server = Server()
    try:
        model = server.install(ROOT / "tiny-sd1")
        for scheduler in ("euler", "ddim", "heun", "dpmpp_2m"):
            whole = sampled(server, model, scheduler, f"{scheduler}/run")
            parts = {
                step: continued(server, model, scheduler, whole["folder"], step, "denoise_latents")
                for step in (range(1, STEPS + 1) if scheduler == "euler" else (3,))
            }
            seen[scheduler] = {"whole": whole, "parts": parts}
        folder = seen["euler"]["whole"]["folder"]
        seen["chained"] = continued(server, model, "euler", folder, 3, TWIN)
        seen["last"] = continued(server, model, "euler", folder, 0, "denoise_latents")
        seen["no_step"] = continued(server, model, "euler", folder, 9, "denoise_latents")
        seen["pndm"] = continued(
            server, model, "pndm", sampled(server, model, "pndm", "pndm/run")["folder"], 3, "denoise_latents"
        )
        seen["loaded"] = {step: loaded(server, model, folder, step) for step in (0, 2)}
        graph = graph_of(model, TWIN, write_intermediates=True, filename_prefix="bare/run")
        server.wait(server.queue(graph))
        seen["bare"] = loaded(server, model, "bare/run_00001", 0)
        seen["alone"] = loaded_alone(server, "bare/run_00001")
        seen["folders"] = names(ROOT / "outputs" / "euler")
    finally:
        server.stop()
        (PLACE / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
