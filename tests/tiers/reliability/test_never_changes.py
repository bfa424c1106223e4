"""A preview changes neither the sampler's numbers nor the process's settings, with any kind of decoder or option."""

import hashlib
import random
import sys
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import write_decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.conv import Conv
from safelight.decoders.nets.mlp import Mlp
from safelight.decoders.nets.polynomial import Polynomial
from safelight.decoders.nets.taehv import Taehv, taehv
from safelight.decoders.nets.taesd import Taesd, taesd
from safelight.decoders.nets.vae_approx import VaeApprox
from safelight.hosts.script import DEFAULTS, recording
from safelight.preview.snapshot import Selection
from safelight.preview.step import Step

pytestmark = pytest.mark.usefixtures("leaves_no_thread")
STEPS = 4
NETS = {
    "polynomial": (Polynomial, {"channels": 16, "degree": 2}),
    "mlp": (Mlp, {"widths": [16, 12, 3]}),
    "conv": (Conv, {"channels": 16, "widths": [8, 8], "overall": True}),
    "tiny": (Taesd, {"layers": taesd(16)}),
    "tiny_video": (Taehv, {"layers": taehv(16, (8, 8, 8, 8))}),
    "approx": (VaeApprox, {"channels": 16}),
}


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """A catalogue with a decoder file of each kind that has weights; the weights are random."""
    folder = tmp_path_factory.mktemp("decoders")
    for kind, (net, settings) in NETS.items():
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in net(**settings).state_dict().items()}
        generator = torch.Generator().manual_seed(1)
        state = {key: torch.randn(shape, generator=generator) * 0.1 for key, shape in shapes.items()}
        card = Card(name=kind, space="wan21", kind=kind, settings=settings, source="a test")
        write_decoder(folder / f"{kind}.safetensors", card, state)
    return Catalogue([folder])


def process_state():
    """Global settings that a sampler relies on."""
    return {
        "torch": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        "numpy": hashlib.sha256(np.random.get_state()[1].tobytes()).hexdigest(),
        "numpy position": np.random.get_state()[2],
        "random": hash(random.getstate()),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()),
        "mkldnn": torch.backends.mkldnn.enabled,
        "anomaly": torch.is_anomaly_enabled(),
        "printing": torch._tensor_str.PRINT_OPTS.precision,
        "numpy errors": tuple(np.geterr().items()),
        "warnings": len(warnings.filters),
        "switch interval": sys.getswitchinterval(),
        "recursion": sys.getrecursionlimit(),
        "profile": (sys.getprofile(), sys.gettrace() is None, threading.stack_size()),
    }


def sample(offer):
    """Samples with random numbers from the global generators, as some samplers do."""
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    x = torch.randn(2, 16, 3, 4, 6, dtype=torch.float32, device="cpu")
    states = []
    for index in range(1, STEPS + 1):
        x0 = torch.tanh(x)
        before = x0.clone(), x.clone()
        offer(Step(index=index, total=STEPS, sigma=1.0 / index, denoised=x0, noisy=x, noisy_gain=0.5))
        assert torch.equal(x0, before[0])
        assert torch.equal(x, before[1])
        states.append(process_state())
        x = x0 + torch.randn_like(x) * 0.1 + random.random() * 0.01 + float(np.random.rand()) * 0.01
    return hashlib.sha256(x.detach().numpy().tobytes()).hexdigest(), states


CONTEXTS = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "another device": lambda: torch.device("meta"),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.fixture(autouse=True)
def restored_generators():
    """Restores the global random generators after each test."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def expect_unchanged(folder, decoders, decoder="auto", options=DEFAULTS, **arguments):
    untouched = sample(lambda _: None)
    with recording(folder, SPACES["wan21"], decoder=decoder, catalogue=decoders, options=options, **arguments) as (
        pipeline,
        run_folder,
    ):
        watched = sample(pipeline.offer)
        before = process_state()
    assert watched == untouched
    assert process_state() == before
    assert [note for note in run_folder.run.notes if "stopped using" in note] == []
    assert (folder / f"step_{STEPS:04d}.{options.file_format}").is_file()


KINDS = ["auto", "principal", *(f"{kind}.safetensors" for kind in NETS)]


@pytest.mark.parametrize("decoder", KINDS)
def test_no_decoder_changes_a_bit_or_a_setting(tmp_path, decoders, decoder):
    expect_unchanged(tmp_path / "run", decoders, decoder)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("context", CONTEXTS)
def test_no_context_of_the_sampler_lets_a_preview_change_anything(tmp_path, decoders, context):
    for i, decoder in enumerate(KINDS if context == "autocast" else KINDS[:1]):
        with CONTEXTS[context]():
            expect_unchanged(tmp_path / f"{i}", decoders, decoder)


OPTIONS = {
    "noisy": {"show": "noisy"},
    "every third": {"every_n_steps": 3},
    "webp": {"options": replace(DEFAULTS, file_format="webp", enlarge="lanczos")},
    "jpg": {"options": replace(DEFAULTS, file_format="jpg", enlarge="bicubic", max_side_px=4)},
    "nearest": {"options": replace(DEFAULTS, enlarge="nearest")},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_no_option_changes_a_bit_or_a_setting(tmp_path, decoders, option):
    expect_unchanged(tmp_path / "run", decoders, **OPTIONS[option])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_another_default_dtype_is_not_changed(tmp_path, decoders, dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        expect_unchanged(tmp_path / "run", decoders)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_not_changed(tmp_path, decoders, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expect_unchanged(tmp_path / "run", decoders)
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_the_streams_and_generators_of_a_gpu_are_not_changed(tmp_path):
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state(), torch.cuda.current_stream(), torch.cuda.current_device()
    with recording(tmp_path / "run", SPACES["sd1"]) as (pipeline, _):
        for index in range(1, 9):
            pipeline.offer(Step(index=index, total=8, denoised=torch.zeros(1, 4, 16, 16, device="cuda")))
            assert (torch.cuda.current_stream(), torch.cuda.current_device()) == before[1:]
    assert torch.equal(torch.cuda.get_rng_state(), before[0])


def test_a_selection_is_a_view_and_does_not_change_the_sampler_s_tensors():
    latents = torch.randn(2, 16, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    before = latents.clone()
    for select in (Selection(items=None, frames="animated"), Selection(frames="middle"), Selection()):
        part = select(latents)
        assert part.untyped_storage().data_ptr() == latents.untyped_storage().data_ptr()
    assert torch.equal(latents, before)
