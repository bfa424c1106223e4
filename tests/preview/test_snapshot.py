"""What is copied from the sampler: the values of that moment, and nothing that it goes on using."""

import gc
import weakref

import pytest
import torch
from safelight.preview.snapshot import Snapshot, first_picture

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_the_sampler_may_write_to_its_tensor_as_soon_as_the_copy_is_taken():
    latents = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    before = latents.clone()
    snapshot = Snapshot(latents)
    latents.fill_(7.0)
    assert torch.equal(snapshot.read(), before)


def test_the_copy_shares_no_memory_with_the_sampler():
    latents = torch.zeros(1, 4, 2, 2)
    assert Snapshot(latents).read().untyped_storage().data_ptr() != latents.untyped_storage().data_ptr()


def test_only_the_part_that_is_looked_at_is_copied():
    latents = torch.zeros(64, 4, 2, 2)
    assert Snapshot(first_picture(latents)).read().untyped_storage().nbytes() == 4 * 2 * 2 * 4


def test_the_sampler_s_tensor_is_let_go():
    latents = torch.zeros(1, 4, 2, 2)
    snapshot, gone = Snapshot(first_picture(latents)), weakref.ref(latents)
    del latents
    gc.collect()
    assert gone() is None
    assert snapshot.read().shape == (1, 4, 2, 2)


def test_no_graph_is_kept():
    latents = torch.zeros(1, 4, 2, 2, requires_grad=True) * 2
    assert latents.grad_fn is not None
    copy = Snapshot(latents).read()
    assert copy.grad_fn is None
    assert not copy.requires_grad


def test_tensors_of_inference_mode_are_copied_outside_of_it():
    with torch.inference_mode():
        latents = torch.ones(1, 4, 2, 2)
    assert torch.equal(Snapshot(first_picture(latents)).read(), torch.ones(1, 4, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_the_copy_has_the_sampler_s_own_type(dtype):
    assert Snapshot(torch.ones(1, 4, 2, 2).to(dtype)).read().dtype == dtype


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 4, 5, 6), (1, 4, 5, 6)),
        ((3, 16, 7, 5, 6), (1, 16, 1, 5, 6)),
        ((3, 8, 100), (1, 8, 100)),
        ((3, 8), (1, 8)),
    ],
)
def test_the_first_picture_is_item_0_and_of_a_video_frame_0(shape, expected):
    latents = torch.arange(torch.Size(shape).numel()).view(shape)
    first = first_picture(latents)
    assert first.shape == expected
    assert first.flatten()[0] == latents.flatten()[0]
    assert torch.equal(first[0].flatten(), (latents[0] if len(shape) != 5 else latents[0, :, :1]).flatten())


@needs_gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_on_a_gpu_taking_a_copy_waits_for_nothing():
    latents = torch.full((2, 4, 64, 64), 3.0, device="cuda")
    Snapshot(latents)  # whatever is set up once
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        snapshot = Snapshot(first_picture(latents))
        latents.fill_(9.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(snapshot.read().cpu(), torch.full((1, 4, 64, 64), 3.0))


@needs_gpu
def test_on_a_gpu_a_reader_on_another_stream_sees_the_whole_copy():
    sampler, reader = torch.cuda.Stream(), torch.cuda.Stream()
    latents = torch.zeros(1, 4, 1024, 1024, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(sampler):
        for _ in range(200):  # work that the copy has to come after
            latents.add_(1.0)
        snapshot = Snapshot(latents)
        latents.fill_(-1.0)
    with torch.cuda.stream(reader):
        assert (snapshot.read() == 200.0).all().item()
