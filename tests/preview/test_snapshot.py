"""Snapshots hold the values of the moment, in memory that the sampler does not use."""

import contextlib
import gc
import weakref

import pytest
import torch
from safelight.errors import LatentsError
from safelight.preview import snapshot as snapshot_module
from safelight.preview.snapshot import Selection, Snapshots, to_host

FIRST = Selection()


def read(snapshots, snapshot):
    with snapshots.reading(snapshot) as latents:
        return latents.clone()


def test_writing_to_the_sampler_s_tensor_does_not_change_its_copy():
    latents = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    before = latents.clone()
    snapshots = Snapshots()
    snapshot = snapshots.take(latents)
    latents.fill_(7.0)
    assert torch.equal(read(snapshots, snapshot), before)


def test_a_copy_shares_no_memory_with_the_sampler():
    latents = torch.zeros(1, 4, 2, 2)
    assert Snapshots().take(latents).copy.untyped_storage().data_ptr() != latents.untyped_storage().data_ptr()


def test_only_the_shown_part_is_copied():
    latents = torch.zeros(64, 4, 2, 2)
    assert Snapshots().take(FIRST(latents)).copy.untyped_storage().nbytes() == 4 * 2 * 2 * 4


def test_a_snapshot_keeps_no_reference_to_the_sampler_s_tensor():
    latents = torch.zeros(1, 4, 2, 2)
    snapshot, gone = Snapshots().take(FIRST(latents)), weakref.ref(latents)
    del latents
    gc.collect()
    assert gone() is None
    assert snapshot.copy.shape == (1, 4, 2, 2)


def test_a_copy_has_no_autograd_graph():
    latents = torch.zeros(1, 4, 2, 2, requires_grad=True) * 2
    assert latents.grad_fn is not None
    copy = Snapshots().take(latents).copy
    assert copy.grad_fn is None
    assert not copy.requires_grad


def test_memory_allocated_in_inference_mode_is_reused_outside_of_it():
    snapshots = Snapshots()
    with torch.inference_mode():
        read(snapshots, snapshots.take(FIRST(torch.ones(1, 4, 2, 2))))
    assert torch.equal(read(snapshots, snapshots.take(torch.full((1, 4, 2, 2), 2.0))), torch.full((1, 4, 2, 2), 2.0))


def test_inference_tensors_are_copied_outside_of_inference_mode():
    with torch.inference_mode():
        latents = torch.ones(1, 4, 2, 2)
    assert torch.equal(Snapshots().take(FIRST(latents)).copy, torch.ones(1, 4, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_copy_has_the_dtype_of_the_sampler_s_tensor(dtype):
    assert Snapshots().take(torch.ones(1, 4, 2, 2).to(dtype)).copy.dtype == dtype


def test_a_run_uses_memory_only_for_its_unread_copies():
    snapshots, addresses = Snapshots(), set()
    for step in range(100):
        unread = [snapshots.take(torch.full((1, 4, 8, 8), float(step))) for _ in range(3)]
        addresses |= {snapshot.copy.data_ptr() for snapshot in unread}
        for snapshot in unread:
            assert (read(snapshots, snapshot) == step).all()
    assert len(addresses) == 3


def test_memory_is_not_reused_while_it_is_read():
    snapshots = Snapshots()
    with snapshots.reading(snapshots.take(torch.ones(1, 4, 2, 2))) as first:
        second = snapshots.take(torch.zeros(1, 4, 2, 2))
        assert second.copy.data_ptr() != first.data_ptr()
        assert (first == 1).all()


def test_memory_is_reused_after_a_reader_that_failed():
    snapshots = Snapshots()
    first = snapshots.take(torch.ones(1, 4, 2, 2))
    with pytest.raises(RuntimeError, match="decoder"), snapshots.reading(first):
        raise RuntimeError("a decoder failed")
    assert snapshots.take(torch.ones(1, 4, 2, 2)).copy.data_ptr() == first.copy.data_ptr()


@pytest.mark.parametrize("other", [torch.ones(1, 4, 2, 3), torch.ones(1, 4, 2, 2).half()], ids=["size", "type"])
def test_a_step_of_another_shape_or_dtype_gets_its_own_memory(other):
    snapshots = Snapshots()
    read(snapshots, snapshots.take(torch.zeros(1, 4, 2, 2)))
    assert torch.equal(read(snapshots, snapshots.take(other)), other)


def test_a_strided_tensor_is_copied_by_its_values():
    latents = torch.arange(48.0).view(1, 4, 3, 4).transpose(2, 3)
    assert torch.equal(Snapshots().take(latents).copy, latents)


WHOLE = torch.arange(2 * 6 * 5 * 8 * 4.0).view(2, 6, 5, 8, 4)


@pytest.mark.parametrize(
    "latents",
    [
        *(WHOLE, WHOLE[:1], WHOLE[:, :, 2:3], WHOLE[:1, :, :1], WHOLE[..., 1:3], WHOLE[..., ::2], WHOLE[:, 1:4, 1:3]),
        *(WHOLE.transpose(1, 2), WHOLE.flip(4), WHOLE[0, 0, 0].T, WHOLE[:1].expand(3, -1, -1, -1, -1), WHOLE[:0]),
        *(WHOLE.to(torch.bfloat16)[:, :, 1], WHOLE.bool()[:, :, 1], torch.tensor(3.0), torch.ones(1, 16, 512, 512)),
        *(WHOLE.to(torch.complex64).conj(), WHOLE.to(torch.complex64).mul(1j).conj().imag),
        torch.ones(1, 70, 3, 2)[..., :1],
    ],
    ids=lambda latents: f"{list(latents.shape)}",
)
def test_a_copy_equals_its_tensor_in_every_memory_layout(latents):
    snapshots = Snapshots()
    for _ in range(2):
        copy = read(snapshots, snapshots.take(latents))
        assert copy.is_contiguous()
        assert torch.equal(copy, latents)


@pytest.mark.parametrize("frames", ["first", "middle", "animated"])
@pytest.mark.parametrize("whole", [WHOLE, WHOLE[1:], WHOLE.transpose(3, 4), WHOLE[:, :, ::2], WHOLE[:, 0]])
def test_the_selected_part_of_each_step_is_copied(whole, frames):
    select = Selection(frames=frames)
    snapshots = Snapshots(select)
    for step in range(3):
        latents = torch.empty_strided(whole.shape, whole.stride()).copy_(whole + step)
        assert torch.equal(read(snapshots, snapshots.take(latents)), select(latents))


def test_a_selection_that_is_no_view_is_computed_for_each_step():
    snapshots = Snapshots(lambda whole: whole * 2)
    for step in range(3):
        latents = torch.full((1, 4, 8, 8), float(step))
        assert torch.equal(read(snapshots, snapshots.take(latents)), latents * 2)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_pixels_do_not_change_on_the_way_to_the_host(device):
    pixels = torch.arange(24, dtype=torch.uint8).view(1, 2, 4, 3)
    assert (to_host(pixels.to(device)) == pixels.numpy()).all()


@pytest.mark.parametrize("items", [1, 2, 16, None])
@pytest.mark.parametrize("frames", ["first", "middle", "animated"])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 16, 7, 5, 6), (3, 16, 1, 5, 6), (3, 16, 4, 5, 6), (3, 8, 100)])
def test_a_selection_contains_the_chosen_items_and_frames(shape, frames, items):
    latents = torch.arange(torch.Size(shape).numel()).view(shape)
    selected = Selection(items=items, frames=frames)(latents)
    expected = [latents[i] for i in range(3) if items is None or i < items]
    if len(shape) == 5 and frames != "animated":
        at = {1: 0, 4: 2, 7: 3}[shape[2]] if frames == "middle" else 0
        expected = [torch.stack([item[:, at]], dim=1) for item in expected]
    assert torch.equal(selected, torch.stack(expected))
    assert selected.untyped_storage().data_ptr() == latents.untyped_storage().data_ptr(), "it is not a view"


@pytest.mark.parametrize(("frames", "at"), [(1, [0]), (2, [0, 1]), (3, [0, 1]), (4, [0, 2]), (7, [0, 3])])
def test_the_first_frame_comes_along_with_the_middle_one(frames, at):
    latents = torch.randn(2, 16, frames, 3, 4)
    select = Selection(items=None, frames="middle", with_first=True)
    assert torch.equal(select(latents), latents[:, :, at])
    assert select(latents).untyped_storage().data_ptr() == latents.untyped_storage().data_ptr(), "it is not a view"
    snapshots = Snapshots(select)
    for step in range(3):
        assert torch.equal(read(snapshots, snapshots.take(latents + step)), latents[:, :, at] + step)
    assert torch.equal(select(latents[:, :, 0]), latents[:, :, 0])


def test_points_without_a_batch_axis_are_selected_as_a_whole():
    assert FIRST(torch.zeros(3, 8)).shape == (3, 8)


class OnDevice(torch.Tensor):
    """A tensor that claims to be on an accelerator and logs copies of it."""

    is_cpu = property(lambda _: False)
    log: list

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.copy_:
            cls.log.append("copied")
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.fixture
def device(monkeypatch):
    """A replacement for an accelerator: a log of all calls to streams and events, and a function that creates latents.

    Its module in PyTorch is `torch.cpu`, because the memory of its tensors is the CPU's.
    """
    log, current = [], ["sampler"]

    class Stream:
        device = torch.device("cpu")

        def __init__(self, _):
            log.append("a stream is created")

        def wait_event(self, event):
            log.append(f"reader waits for {event.name}")

        def synchronize(self):
            log.append("reader synchronizes")

    class Event:
        created = 0

        def __init__(self):
            Event.created += 1
            self.name = f"event {Event.created}"

        def record(self, stream):
            log.append(f"{self.name} on {stream}")

    @contextlib.contextmanager
    def on(stream):
        current.append("sampler" if stream is None else "reader")
        try:
            yield
        finally:
            current.pop()

    monkeypatch.setattr(OnDevice, "log", log, raising=False)
    monkeypatch.setattr(torch.cpu, "Stream", Stream)
    monkeypatch.setattr(torch.cpu, "Event", Event)
    monkeypatch.setattr(torch.cpu, "stream", on)
    monkeypatch.setattr(torch.cpu, "current_stream", lambda _=None: current[-1])
    return log, lambda value: torch.full((1, 4, 2, 2), value).as_subclass(OnDevice)


def test_on_a_device_the_sampler_does_not_wait_and_memory_is_reused_after_it_was_read(device):
    log, latents = device
    snapshots, addresses = Snapshots(), []
    for value in (1.0, 2.0):
        snapshot = snapshots.take(latents(value))
        addresses.append(snapshot.copy.data_ptr())
        with snapshots.reading(snapshot) as copy:
            log.append(f"read on {torch.cpu.current_stream()}")
            assert (copy == value).all()
    taken, seen = ["copied", "event {} on sampler"], ["reader waits for event {}", "read on reader"]
    first = [*taken, "a stream is created", *seen, "reader synchronizes"]
    second = [*taken, *seen, "reader synchronizes"]
    assert log == [line.format(1) for line in first] + [line.format(2) for line in second]
    assert addresses[0] == addresses[1]


def test_on_a_device_a_second_copy_has_its_own_memory_while_the_first_is_unread(device):
    log, latents = device
    snapshots = Snapshots()
    first, second = snapshots.take(latents(1.0)), snapshots.take(latents(2.0))
    assert log == ["copied", "event 1 on sampler", "copied", "event 2 on sampler"]
    assert ((first.copy == 1).all(), (second.copy == 2).all()) == (True, True)


def test_memory_of_a_reader_that_failed_is_reused_only_after_its_stream_is_done(device):
    log, latents = device
    snapshots = Snapshots()
    first = snapshots.take(latents(1.0))
    with pytest.raises(RuntimeError, match="decoder"), snapshots.reading(first):
        raise RuntimeError("a decoder failed")
    assert log[-1] == "reader synchronizes"
    assert snapshots.take(latents(2.0)).copy.data_ptr() == first.copy.data_ptr()


def test_a_sampler_that_changes_its_stream_gets_memory_of_that_stream(device, monkeypatch):
    _, latents = device
    snapshots, addresses = Snapshots(), []
    for stream in ("sampler", "capture", "capture"):
        monkeypatch.setattr(torch.cpu, "current_stream", lambda _=None, name=stream: name)
        snapshot = snapshots.take(latents(1.0))
        addresses.append(snapshot.copy)
        read(snapshots, snapshot)
    assert addresses[0].data_ptr() != addresses[1].data_ptr() == addresses[2].data_ptr()


def test_a_step_inside_of_a_graph_capture_is_refused_before_anything_is_queued(device, monkeypatch):
    log, latents = device
    monkeypatch.setattr(torch.cpu, "is_current_stream_capturing", lambda: True, raising=False)
    snapshots = Snapshots()
    with pytest.raises(LatentsError, match="the sampler's stream is recording a graph; capture the model alone"):
        snapshots.take(latents(1.0))
    assert (log, snapshots.size_bytes) == ([], 0)
    monkeypatch.setattr(torch.cpu, "is_current_stream_capturing", lambda: False)
    snapshots.take(latents(1.0))
    assert log == ["copied", "event 1 on sampler"]


def test_the_reader_ignores_the_captures_of_other_threads_before_it_creates_its_stream(device, monkeypatch):
    log, latents = device
    monkeypatch.setattr(
        snapshot_module, "ignore_captures_of_other_threads", lambda kind: log.append(f"ignores: {kind}")
    )
    snapshots = Snapshots()
    for _ in range(2):
        read(snapshots, snapshots.take(latents(1.0)))
    assert [line for line in log if "ignores" in line or "created" in line] == ["ignores: cpu", "a stream is created"]


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_on_a_gpu_taking_a_copy_does_not_synchronize():
    snapshots, latents = Snapshots(), torch.full((2, 4, 64, 64), 3.0, device="cuda")
    snapshots.take(latents)  # the first copy allocates its memory
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        snapshot = snapshots.take(FIRST(latents))
        latents.fill_(9.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(read(snapshots, snapshot).cpu(), torch.full((1, 4, 64, 64), 3.0))


@pytest.mark.gpu
def test_on_a_gpu_the_reader_sees_the_complete_copy_on_its_own_stream():
    sampler, snapshots = torch.cuda.Stream(), Snapshots()
    latents = torch.zeros(1, 4, 1024, 1024, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(sampler):
        for _ in range(200):  # work that must be done before the copy
            latents.add_(1.0)
        snapshot = snapshots.take(latents)
        latents.fill_(-1.0)
        with snapshots.reading(snapshot) as copy:
            assert torch.cuda.current_stream() not in (sampler, torch.cuda.default_stream())
            assert (copy == 200.0).all().item()
