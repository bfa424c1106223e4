"""Pictures in ComfyUI's asset browser, with a stand-in of its interface.

Source of the stand-in: Comfy-Org/ComfyUI@228da55822586baa032c369990759818ea144185, `comfy_api/latest/__init__.py`,
`comfy_api/latest/_previews.py`, `comfy_execution/preview_generators.py`.
"""

import asyncio
import mimetypes
import sys
from abc import ABC, abstractmethod
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safelight.decoders.catalogue import Catalogue
from safelight.hosts.comfyui import asset_previews
from safetensors.torch import save_file

MANY = 1_000_000


class PreviewGenerator(ABC):
    """ComfyUI's base class."""

    mime_types: tuple[str, ...]

    @abstractmethod
    def generate(self, source_path, max_pixels):
        """Returns a picture of 8 bits, or None."""


class Host:
    """The generators of a ComfyUI, by MIME type."""

    def __init__(self):
        self.generators = {}

    @property
    def previews(self):
        return self

    async def register_generator(self, generator):
        assert isinstance(generator, PreviewGenerator)
        self.generators |= dict.fromkeys(generator.mime_types, generator)

    def picture_of(self, path):
        """What the asset browser gets for a file."""
        generator = self.generators.get(mimetypes.guess_type(str(path), strict=False)[0])
        return None if generator is None else generator.generate(str(path), MANY)


@pytest.fixture(autouse=True)
def mime_types(monkeypatch):
    """ComfyUI's table of MIME types, which others in this process do not get."""
    database = mimetypes.MimeTypes()
    database.add_type("application/safetensors", ".safetensors")
    monkeypatch.setattr(mimetypes, "guess_type", database.guess_type)
    monkeypatch.setattr(mimetypes, "add_type", database.add_type)


@pytest.fixture
def host(monkeypatch):
    host = Host()
    latest = SimpleNamespace(ComfyAPI=lambda: host, Previews=SimpleNamespace(PreviewGenerator=PreviewGenerator))
    registry = SimpleNamespace(get_preview_generator=host.generators.get)
    host.registry = registry
    monkeypatch.setitem(sys.modules, "comfy_api", SimpleNamespace(latest=latest))
    monkeypatch.setitem(sys.modules, "comfy_api.latest", latest)
    monkeypatch.setitem(sys.modules, "comfy_execution", SimpleNamespace(preview_generators=registry))
    monkeypatch.setitem(sys.modules, "comfy_execution.preview_generators", registry)
    return host


def register():
    asyncio.run(asset_previews.register(Catalogue))


@pytest.fixture
def latent(tmp_path):
    tensors = {"latent_tensor": torch.zeros(1, 32, 8, 12), "latent_format_version_0": torch.tensor([])}
    save_file(tensors, tmp_path / "a.latent")
    save_file(tensors, tmp_path / "a.safetensors")
    return tmp_path / "a.latent"


def test_files_of_latents_have_a_picture_of_the_kind_that_comfyui_takes(host, latent):
    register()
    for path in (latent, latent.with_suffix(".safetensors")):
        picture = host.picture_of(path)
        assert (picture.mode, picture.size) == ("RGB", (12, 8))


def test_the_record_of_a_run_has_its_newest_picture(host, tmp_path):
    register()
    steps = '[{"index": 1, "sigma": null, "at": 0.1, "files": ["step_0001.png"]}]'
    (tmp_path / "run.json").write_text(
        f'{{"format": "safelight.run/1", "id": "a", "state": "finished", "steps": {steps}}}'
    )
    Image.new("RGB", (6, 4), "red").save(tmp_path / "step_0001.png")
    assert host.picture_of(tmp_path / "run.json").getpixel((0, 0)) == (255, 0, 0)


def test_other_files_of_these_types_have_none(host, tmp_path):
    register()
    save_file({"weight": torch.zeros(4)}, tmp_path / "model.safetensors")
    (tmp_path / "workflow.json").write_text("{}")
    assert host.picture_of(tmp_path / "model.safetensors") is None
    assert host.picture_of(tmp_path / "workflow.json") is None


def test_a_damaged_file_has_none(host, tmp_path):
    register()
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "a.latent").write_bytes(b"damaged")
    assert host.picture_of(tmp_path / "run.json") is None
    assert host.picture_of(tmp_path / "a.latent") is None


def test_a_generator_of_another_pack_still_gets_its_files(host, tmp_path):
    class Models(PreviewGenerator):
        mime_types = ("application/safetensors",)

        def generate(self, source_path, max_pixels):
            return Image.new("L", (1, 1))

    asyncio.run(host.register_generator(Models()))
    register()
    save_file({"weight": torch.zeros(4)}, tmp_path / "model.safetensors")
    assert host.picture_of(tmp_path / "model.safetensors").size == (1, 1)


def test_a_type_that_another_pack_gave_to_latents_stays(host, latent):
    mimetypes.add_type("application/x-of-another-pack", ".latent")
    register()
    assert mimetypes.guess_type("a.latent")[0] == "application/x-of-another-pack"
    assert host.picture_of(latent).size == (12, 8)


def test_without_a_list_of_generators_the_pictures_are_there(host, latent, monkeypatch):
    monkeypatch.setitem(sys.modules, "comfy_execution.preview_generators", None)
    register()
    assert host.picture_of(latent).size == (12, 8)


def test_an_older_comfyui_has_no_such_interface(monkeypatch):
    monkeypatch.setitem(sys.modules, "comfy_api", SimpleNamespace(latest=SimpleNamespace()))
    monkeypatch.setitem(sys.modules, "comfy_api.latest", SimpleNamespace(ComfyAPI=object))
    register()
    assert mimetypes.guess_type("a.latent")[0] is None


def test_an_interface_that_has_changed_costs_nothing(host, monkeypatch):
    async def changed(generator):
        raise TypeError("other arguments")

    monkeypatch.setattr(host, "register_generator", changed)
    register()
    assert host.generators == {}
