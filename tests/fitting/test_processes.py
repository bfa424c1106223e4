"""The processes of a fit: shares, exchanges in a group of torch.distributed, and how a fit ends together."""

import signal

import pytest
import torch
import torch.distributed as dist
from safelight.decoders.nets.conv import Conv
from safelight.errors import FitError, LostProcessError
from safelight.fitting import processes as module
from safelight.fitting.processes import ONE_PROCESS, TorchProcesses, joined_processes, own_device

from .thread_processes import run_together


@pytest.fixture
def group(tmp_path):
    """A group of one process: all its exchanges are with itself."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield TorchProcesses("cpu")
    dist.destroy_process_group()


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of the second of two processes that torchrun started."""
    for name, value in {"TORCHELASTIC_RUN_ID": "a-run", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("length", [0, 1, 2, 7, 12])
def test_the_shares_together_are_the_whole(length):
    items = list(range(length))
    shares = run_together(3, lambda processes: processes.share(items))
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    bounds = run_together(3, lambda processes: processes.share_bounds(length))
    assert [items[begin:end] for begin, end in bounds] == shares


def test_one_process_gets_what_it_gives():
    items, tensor, net = [1, 2], torch.rand(3), Conv(4, (6,))
    assert ONE_PROCESS.share(items) is items
    assert ONE_PROCESS.total(tensor) is ONE_PROCESS.gathered_by_first(tensor) is tensor
    assert ONE_PROCESS.parallel(net) is net
    assert ONE_PROCESS.mean(tensor) == float(tensor.mean())
    assert ONE_PROCESS.texts_of_all(["a", "b"]) == ["a", "b"]


def test_a_group_exchanges_tensors_and_texts(group):
    tensor = torch.rand(3, 2, dtype=torch.float64)
    assert torch.equal(group.total(tensor), tensor)
    assert group.total(tensor) is not tensor
    assert group.mean(tensor) == pytest.approx(float(tensor.mean()))
    assert group.texts_of_all(["picture", "§ \n"]) == ["picture", "§ \n"]
    assert group.text_of_first("") == ""
    assert torch.equal(group.gathered_by_first(tensor), tensor)
    assert group.tensors_of_first(None) is None
    sent = {"a": torch.rand(2, 3).T, "b": torch.tensor(7)}
    found = group.tensors_of_first(sent)
    assert found.keys() == sent.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in sent.items())


def test_a_net_in_a_group_has_the_gradients_of_the_net_alone(group):
    net, latents = Conv(4, (6,)), torch.rand(2, 4, 5, 5)
    net(latents).square().mean().backward()
    expected = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    group.parallel(net)(latents).square().mean().backward()
    assert all(torch.allclose(p.grad, grad) for p, grad in zip(net.parameters(), expected, strict=True))


def test_an_exchange_that_fails_says_that_a_process_was_lost(group, monkeypatch):
    def lost(*_):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(dist, "broadcast", lost)
    for exchange in (lambda: group.total(torch.zeros(1)), lambda: group.text_of_first("work")):
        with pytest.raises(
            LostProcessError, match=r"another process of this command ended .* Connection closed by peer"
        ):
            exchange()


def test_too_little_memory_of_a_gpu_is_no_lost_process(group):
    with pytest.raises(torch.cuda.OutOfMemoryError), group.noticing_losses():
        raise torch.cuda.OutOfMemoryError("full")


def test_an_interrupt_before_the_fit_ends_the_process(group):
    with pytest.raises(KeyboardInterrupt):
        group.interrupt()


def test_an_interrupt_in_the_fit_waits_until_all_processes_agree(group):
    with group.fitting_together():
        assert not group.is_one_interrupted()
        group.interrupt()
        assert group.is_one_interrupted()
        with pytest.raises(KeyboardInterrupt):
            group.announce("conv")


def test_without_an_interrupt_all_processes_go_on(group, monkeypatch):
    sent = []
    monkeypatch.setattr(group, "text_of_first", sent.append)
    with group.fitting_together():
        group.announce("conv")
    assert sent == ["conv", ""]


@pytest.mark.parametrize("error", [FitError, KeyboardInterrupt])
def test_the_first_process_announces_the_end_also_if_it_failed(group, monkeypatch, error):
    announced = []
    monkeypatch.setattr(group, "text_of_first", announced.append)
    with pytest.raises(error), group.fitting_together():
        raise error
    assert announced == [""]


@pytest.mark.parametrize("error", [LostProcessError, MemoryError])
def test_if_others_may_be_in_the_middle_of_an_exchange_nothing_is_announced(group, monkeypatch, error):
    announced = []
    monkeypatch.setattr(group, "text_of_first", announced.append)
    with pytest.raises(error), group.fitting_together():
        raise error
    assert announced == []


def test_without_torchrun_there_is_one_process(monkeypatch):
    with joined_processes("cpu") as processes:
        assert processes is ONE_PROCESS
    monkeypatch.setenv("WORLD_SIZE", "8")  # a cluster sets it for the training in the same container
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined_processes("cpu") as processes:
        assert processes is ONE_PROCESS


@pytest.mark.usefixtures("torchrun")
@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda:1", "cpu:gloo,cuda:nccl")])
def test_the_device_chooses_how_processes_exchange(tmp_path, monkeypatch, device, backend):
    joined, devices = [], []
    init = dist.init_process_group

    def one_process(name, **options):
        joined.append((name, options["timeout"]))
        init("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)

    monkeypatch.setattr(dist, "init_process_group", one_process)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    before = signal.getsignal(signal.SIGINT)
    with joined_processes(device) as processes:
        assert signal.getsignal(signal.SIGINT) is not before
        assert (processes.rank, processes.count) == (0, 1)
    assert signal.getsignal(signal.SIGINT) is before
    assert not dist.is_initialized()
    assert joined == [(backend, module.TIMEOUT)]
    assert devices == ([device] if device != "cpu" else [])


@pytest.mark.usefixtures("torchrun")
def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("cuda") == "cuda:1"
    assert own_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(FitError, match="got 1 for process 2; start fewer processes"):
        own_device("cuda")
    for name in ("mps", "cuda:0"):
        with pytest.raises(FitError, match="expected cpu or cuda as the device of several processes"):
            own_device(name)


@pytest.mark.usefixtures("torchrun")
def test_gpus_without_nccl_are_refused_before_the_processes_join(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)  # as on Windows
    with pytest.raises(FitError, match="NCCL is not in it"):
        own_device("cuda")
    assert own_device("cpu") == "cpu"


def test_without_torchrun_the_device_is_the_one_that_is_named():
    assert own_device("cuda:3") == "cuda:3"
