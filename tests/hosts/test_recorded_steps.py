"""Steps as arrays of any framework: the same pictures as from torch, and clear errors before anything is shown."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import safelight
import torch
from PIL import Image
from safelight import SPACES, recording
from safelight.decoders.catalogue import Catalogue
from safelight.errors import LatentsError, OptionError, SinkError, UnknownSpaceError
from safelight.hosts import arrays
from safelight.hosts.arrays import tensor_of
from safelight.hosts.dlpack_strides import dlpack_strides
from safelight.preview.manifest import read_manifest

FLUX = (1, 16, 6, 8)
SHOWN = ("flux2", "sd1", "sdxl")  # spaces with decoders of every kind that ships


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Exported:
    """An array of another framework: it has DLPack and nothing else."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


class OnGpu(Exported):
    """An array on a device that torch here cannot use."""

    device = "cuda:0"

    def __dlpack__(self, **options):
        raise BufferError("memory of a GPU")

    def __dlpack_device__(self):
        return (2, 0)


class Array:
    """An array of another framework: NumPy can convert it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


def pictures_of(folder):
    names = sorted(path.name for path in folder.glob("step_*.png"))
    return {name: np.asarray(Image.open(folder / name).convert("RGB")) for name in names}


# Pictures


@pytest.mark.parametrize("convert", [np.asarray, lambda x: Exported(torch.tensor(x)), Array, torch.tensor])
def test_three_lines_record_a_loop_of_any_framework(tmp_path, convert):
    with recording(tmp_path / "run", "flux1", steps=3) as run:
        for i in range(3):
            run.offer(convert(numbers(*FLUX, seed=i)), sigma=1 - i / 3)
    manifest = read_manifest(tmp_path / "run")
    assert (manifest["state"], manifest["space"], manifest["notes"]) == ("finished", "flux1", [])
    assert manifest["sampler"]["steps"] == 3
    assert [(step["index"], step["show"]) for step in manifest["steps"]] == [(i, "denoised") for i in (1, 2, 3)]
    assert [step["sigma"] for step in manifest["steps"]] == pytest.approx([1, 2 / 3, 1 / 3])
    decoder = Catalogue().candidates(SPACES["flux1"])[0].open()
    rgb = decoder.decode(torch.tensor(numbers(*FLUX, seed=1)))[0]
    expected = (rgb.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(pictures_of(tmp_path / "run")["step_0002.png"], expected)


def test_closed_forms_and_convs_of_every_kind_decode_arrays_of_numpy(tmp_path):
    catalogue = Catalogue()
    kinds = {card.kind: (card.space, card.name) for card in catalogue.all() if card.space in SHOWN}
    assert set(kinds) == {"polynomial", "conv", "mlp"}
    for kind, (space, name) in kinds.items():
        row = SPACES[space]
        shape = (1, row.channels, *((2,) if row.dims == 3 else ()), 6, 8)
        for form, convert in (("numpy", np.asarray), ("torch", torch.tensor)):
            with recording(tmp_path / f"{kind}-{form}", space, decoder=name, steps=1) as run:
                run.offer(convert(numbers(*shape)))
        assert read_manifest(tmp_path / f"{kind}-numpy")["decoder"]["name"] == name
        ours, theirs = (pictures_of(tmp_path / f"{kind}-{form}") for form in ("numpy", "torch"))
        assert np.array_equal(ours["step_0001.png"], theirs["step_0001.png"])


@pytest.mark.parametrize(
    ("space", "change", "options"),
    [
        ("flux1", lambda x: x.transpose(0, 2, 3, 1), {"channels_last": True}),
        ("flux1", lambda x: x[0].transpose(1, 2, 0), {"channels_last": True}),
        ("flux1", lambda x: x[0], {}),
        ("flux1", lambda x: x[:, :, ::-1][:, :, ::-1], {}),
        ("flux1", lambda x: x.astype(">f8"), {}),
        ("flux1", lambda x: x.astype(np.longdouble), {}),
        ("flux1", lambda x: np.lib.stride_tricks.as_strided(x, writeable=False), {}),
        ("wan21", lambda x: x[:, :, None], {}),
        ("wan21", lambda x: x[0, :, None].transpose(1, 2, 3, 0), {"channels_last": True}),
    ],
)
def test_axes_byte_order_and_strides_make_no_difference(tmp_path, space, change, options):
    with recording(tmp_path / "plain", space, steps=1) as run:
        run.offer(numbers(*FLUX))
    with recording(tmp_path / "changed", space, steps=1) as run:
        run.offer(change(numbers(*FLUX)), **options)
    plain, changed = (pictures_of(tmp_path / name)["step_0001.png"] for name in ("plain", "changed"))
    assert np.array_equal(plain, changed)


def test_tokens_are_arranged_to_the_size_of_the_image(tmp_path):
    plain = numbers(*FLUX)
    cells = plain.reshape(1, 16, 3, 2, 4, 2)
    tokens = cells.transpose(0, 2, 4, 1, 3, 5).reshape(1, 12, 64)
    for name, options, latents in (("plain", {}, plain), ("tokens", {"size": (64, 48)}, tokens)):
        with recording(tmp_path / name, "flux1", steps=1, **options) as run:
            run.offer(latents)
    one, two = (pictures_of(tmp_path / name)["step_0001.png"] for name in ("plain", "tokens"))
    assert np.array_equal(one, two)


def test_the_array_may_be_overwritten_after_the_call(tmp_path):
    latents = numbers(*FLUX)
    with recording(tmp_path / "run", "flux1", every_n_steps=5) as run:
        run.offer(latents)
        for _ in range(2):
            latents *= 0.5
            run.offer(latents)
        latents[:] = np.nan
    manifest = read_manifest(tmp_path / "run")
    assert [step["index"] for step in manifest["steps"]] == [1, 3], "the last step is known at the end"
    assert not any("not_finite" in step for step in manifest["steps"])


def test_noisy_latents_are_shown_if_there_is_no_estimate(tmp_path):
    with recording(tmp_path / "run", "flux1", steps=2) as run:
        run.offer(noisy=numbers(*FLUX) * 9)
        run.offer(numbers(*FLUX), noisy=numbers(*FLUX))
    assert [step["show"] for step in read_manifest(tmp_path / "run")["steps"]] == ["noisy", "denoised"]


def test_bfloat16_of_other_frameworks_is_read():
    values = torch.randn(2, 3).bfloat16()
    assert torch.equal(tensor_of(Exported(values)), values)


def test_backward_steps_are_refused_before_torch_ends_the_process(monkeypatch):
    monkeypatch.setattr(arrays, "dlpack_strides", lambda capsule: [4, -1])
    with pytest.raises(LatentsError, match="torch reads no array with backward steps"):
        tensor_of(Exported(torch.randn(2, 4).bfloat16()))


def test_the_strides_of_a_capsule_are_read():
    values = torch.randn(2, 3, 4).transpose(0, 2)
    assert dlpack_strides(values.__dlpack__()) == [1, 4, 12]
    with pytest.raises(ValueError, match="PyCapsule_GetPointer"):
        dlpack_strides(object())


# Wrong input


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[1.0]], r"expected latents as an array of NumPy, of torch, or with DLPack, got list; convert them"),
        (None, "expected the latents of a step, got none; pass x0, or noisy="),
        (np.zeros(FLUX, np.uint8), "expected latents of floating point numbers, got numpy.ndarray of uint8; pass them"),
        (np.zeros(FLUX, np.complex64), "floating point numbers, got numpy.ndarray of complex64"),
        (np.array(["a"]), r"expected latents that can be read as they are, got numpy.ndarray.*to the CPU as float32"),
        (
            OnGpu(torch.zeros(FLUX)),
            r"got tests.OnGpu on cuda:0 \(BufferError: memory of a GPU.*\); copy them to the CPU as float32 first",
        ),
        (
            numbers(1, 4, 6, 8),
            r"latents of FLUX.1 \(flux1\) with 16 channels, got \[1, 4, 6, 8\]; pass them as \[B, C, H",
        ),
        (numbers(1, 6, 8, 16), r"got \[1, 6, 8, 16\]; pass channels_last=True, if the last axis holds the channels"),
        (numbers(1, 12, 64), r"expected the size of the final image for tokens \[1, 12, 64\].*size=\(width, height\)"),
        (numbers(0, 16, 6, 8), r"got \[0, 16, 6, 8\]"),
        (np.float32(1), r"got \[\]"),
    ],
)
def test_what_cannot_be_shown_is_an_error_that_says_what_to_do(tmp_path, array, message):
    with recording(tmp_path / "run", "flux1", steps=1) as run:
        with pytest.raises(LatentsError, match=message):
            run.offer(array)
        run.offer(numbers(*FLUX))
    assert [step["index"] for step in read_manifest(tmp_path / "run")["steps"]] == [1]


def test_channels_last_with_other_channels_is_an_error(tmp_path):
    with recording(tmp_path / "run", "flux1") as run, pytest.raises(LatentsError, match=r"\[B, H, W, C\]"):
        run.offer(numbers(*FLUX), channels_last=True)


def test_not_a_number_is_shown_with_a_note(tmp_path):
    with recording(tmp_path / "run", "flux1", steps=1) as run:
        run.offer(np.full(FLUX, np.nan, np.float32))
    manifest = read_manifest(tmp_path / "run")
    assert manifest["steps"][0]["not_finite"] == 1
    assert "NaN or infinite" in manifest["notes"][0]


def test_wrong_arguments_of_the_recording_are_errors_before_the_loop(tmp_path):
    with pytest.raises(UnknownSpaceError, match="flux7"):
        recording(tmp_path / "run", "flux7").__enter__()
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="expected a folder for the run"):
        recording(str(tmp_path / "file"), "flux1").__enter__()
    with recording(tmp_path / "run", "flux1") as run, pytest.raises(OptionError, match="whole number of steps"):
        run.offer(numbers(*FLUX), index=0.5)


# The example


def test_the_example_records_a_loop_of_numpy(tmp_path, monkeypatch, capsys):
    script = Path(safelight.__file__).parent / "example_scripts" / "watch_a_numpy_loop.py"
    monkeypatch.setattr("sys.argv", [str(script), "--out", str(tmp_path / "run"), "--steps", "3"])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out == f"3 steps in {tmp_path / 'run'}; open {tmp_path / 'run' / 'index.html'}\n"
    manifest = read_manifest(tmp_path / "run")
    assert (manifest["state"], len(manifest["steps"]), manifest["notes"]) == ("finished", 3, [])
