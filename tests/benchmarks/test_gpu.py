"""The proof for GPUs: its parts run on a fake device, and what it would find wrong is found."""

import json
import threading

import pytest
import torch
from safelight.benchmarks import timing
from safelight.benchmarks.gpu import __main__ as proof
from safelight.benchmarks.gpu import beside, facts, runs, steps
from safelight.benchmarks.gpu.device import CONTROL, MEASURED, waiting_calls
from safelight.benchmarks.gpu.fake_device import Operation, fake_device
from safelight.benchmarks.gpu.order import order_faults
from safelight.benchmarks.gpu.rows import Row, as_table, at_most, equal, unmet
from safelight.preview.snapshot import Snapshots, to_host

SAMPLER, WORKER = 1, 2


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(timing, "TIMED_STEPS", 2)
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)
    monkeypatch.setattr(steps, "MEASURED_CASES", ("SD1 64x64",))
    monkeypatch.setattr(steps, "AHEAD_MS", 0.01)
    monkeypatch.setattr(proof, "ORDER_CASES", ("SD1 64x64",))
    monkeypatch.setattr(beside, "CASE", "SD1 64x64")
    monkeypatch.setattr(beside, "CAPTURES", 4)
    monkeypatch.setattr(beside, "CAPTURE_STEPS", 2)
    monkeypatch.setattr(runs, "RUN_STEPS", 2)
    monkeypatch.setattr(runs, "RUNS", (runs.RUNS[0]._replace(case="SD1 64x64", step_ms=0.01, pairs=2),))


@pytest.fixture
def fake():
    with fake_device() as (device, record):
        yield device, record


# The command


def test_a_fake_device_meets_all_targets_and_the_table_says_that_it_is_a_fake(tmp_path, capsys):
    assert proof.main(["--fake", "--json", str(tmp_path / "rows.json")]) == 0
    printed = capsys.readouterr().out
    assert (
        "A fake device recorded order, waits and captures. Its times and its memory say nothing about a GPU." in printed
    )
    assert "Verdict: yes." in printed
    saved = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert (saved["fake"], saved["met"]) == (True, True)
    assert {row["part"] for row in saved["rows"]} == {"order", "device", "step", "capture"}
    assert all(row["met"] is None for row in saved["rows"] if "us on" in row["what"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_the_command_says_what_to_do(capsys):
    assert proof.main([]) == 2
    error = capsys.readouterr().err
    assert "expected a CUDA or ROCm device, but PyTorch" in error
    assert "use --fake" in error


def test_a_part_that_fails_is_a_row_and_the_others_still_run():
    def broken(_):
        yield Row("first", "before", 1)
        raise RuntimeError("driver is gone")

    parts = {"first": broken, "second": lambda _: iter([equal("second", "waits", 0, 0)])}
    rows = proof.measured_rows(None, parts, lambda: 0.0)
    assert [row.part for row in rows] == ["first", "first", "second"]
    assert [row.value for row in unmet(rows)] == ["RuntimeError: driver is gone"]


def test_a_part_for_which_no_time_is_left_is_not_run_and_the_verdict_is_no():
    times = iter([0.0, 0.0, proof.SECONDS + 1])
    parts = {"first": lambda _: iter([equal("first", "waits", 0, 0)]), "second": lambda _: pytest.fail("it ran")}
    rows = proof.measured_rows(None, parts, lambda: next(times))
    assert [(row.part, row.met) for row in rows] == [("first", True), ("second", False)]


def test_a_target_that_is_not_met_makes_the_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(proof, "PARTS", {"step": lambda _: iter([at_most("step", "us", 51, 50)])})
    assert proof.main(["--fake"]) == 1
    assert "Verdict: no." in capsys.readouterr().out


def test_the_table_has_one_line_for_each_row_whatever_is_in_it():
    table = as_table(
        [Row("a", "text", "one\ntwo | three"), at_most("b", "ratio", 0.123456, 1), Row("c", "many", 12345.6)]
    )
    assert len(table.splitlines()) == 5
    assert "one two / three" in table
    assert " 0.123 " in table
    assert " 12,346 " in table


# Parts that need a real device to say something; here they only have to run


@pytest.mark.parametrize("part", [runs.time_rows, runs.memory_rows, beside.full_rows])
def test_a_part_runs_on_the_fake_device(fake, part):
    rows = list(part(fake[0]))
    assert rows
    assert all(row.met is not False for row in rows if row.part != runs.TIME)


def test_a_slice_of_a_device_is_named(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert facts.is_slice("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
    assert not facts.is_slice("NVIDIA GeForce RTX 4090")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3eb87630-93d5-b2b6-b8ff-9b359caf4ee2")
    assert facts.is_slice("NVIDIA A100-SXM4-40GB")


@pytest.mark.parametrize(
    ("inside", "wrong"), [("", "none"), ("<skipped/>", "tests.one::two"), ("<failure/>", "tests.one::two")]
)
def test_tests_that_fail_or_do_not_run_are_named(inside, wrong):
    case = f'<testcase classname="tests.one" name="two">{inside}</testcase>'
    rows = list(facts.counted(f"<testsuites><testsuite>{case}</testsuite></testsuites>"))
    assert [row.value for row in rows] == [1, wrong]
    assert rows[-1].met is (wrong == "none")


def test_a_report_without_a_test_does_not_meet_the_target():
    assert next(facts.counted("<testsuites/>")).met is False


# Waits in a trace


def call(name, ts, tid=7, cat="cuda_runtime"):
    return {"name": name, "cat": cat, "pid": 1, "tid": tid, "ts": ts, "dur": 1}


def test_only_waiting_calls_of_the_same_thread_inside_of_the_label_count():
    label = {"name": MEASURED, "cat": "user_annotation", "pid": 1, "tid": 7, "ts": 100, "dur": 50}
    inside = ["cudaStreamSynchronize", "cudaMemcpy", "hipDeviceSynchronize", "cuMemFree_v2", "cudaHostAlloc"]
    harmless = [
        "cudaMemcpyAsync",
        "cudaLaunchKernel",
        "cudaEventRecord",
        "cudaStreamIsCapturing",
        "cudaStreamWaitEvent",
    ]
    events = [
        {"name": "process_name", "ph": "M", "pid": 1},
        label,
        {**label, "cat": "gpu_user_annotation", "ts": 0, "dur": 999},
        *(call(name, 110 + index) for index, name in enumerate(inside + harmless)),
        call("cudaDeviceSynchronize", 99),
        call("cudaDeviceSynchronize", 151),
        call("cudaEventSynchronize", 120, tid=8),
        call("cudaStreamSynchronize", 120, cat="cpu_op"),
    ]
    assert waiting_calls(events, MEASURED) == inside
    assert waiting_calls(events, CONTROL) == []


# Rules of order


def good_run():
    return [
        Operation(SAMPLER, "default stream", "allocate", "8 bytes"),
        Operation(SAMPLER, "default stream", "copy", "0x1"),
        Operation(SAMPLER, "default stream", "record", "event 1"),
        Operation(WORKER, "stream 1", "wait", "event 1"),
        Operation(WORKER, "stream 1", "read"),
        Operation(WORKER, "stream 1", "pin", "8 bytes"),
        Operation(WORKER, "stream 1", "copy to host", "pinned"),
        Operation(WORKER, "stream 1", "record", "event 2"),
        Operation(WORKER, "stream 1", "synchronize event", "event 2"),
        Operation(WORKER, "stream 1", "synchronize stream"),
        Operation(SAMPLER, "default stream", "copy", "0x1"),
        Operation(SAMPLER, "default stream", "record", "event 3"),
    ]


def without(index):
    return [each for at, each in enumerate(good_run()) if at != index]


def changed(index, **values):
    return [each._replace(**values) if at == index else each for at, each in enumerate(good_run())]


def test_a_run_in_order_has_no_faults():
    assert order_faults(good_run(), SAMPLER) == []


@pytest.mark.parametrize(
    ("operations", "fault"),
    [
        (changed(0, name="synchronize device"), "the sampler's thread waits: synchronize device"),
        (changed(0, name="read"), "the sampler's thread waits: read"),
        (without(2), "no event follows the copy on default stream"),
        (changed(2, stream="stream 9"), "no event follows the copy on default stream"),
        (without(3), "no stream waits for the sampler's copies"),
        (changed(3, what="event 8"), "a stream waits for event 8, which the sampler has not recorded"),
        (changed(4, stream="default stream"), "another thread works on the sampler's default stream: read"),
        (changed(6, what="pageable"), "pixels are copied to memory that is not pinned"),
        (without(8), "pixels are used before their copy is complete"),
        (without(9), "memory is written again while it is read"),
    ],
)
def test_each_rule_of_order_is_checked(operations, fault):
    assert fault in order_faults(operations, SAMPLER)


# The fake device


def in_a_thread(action):
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def test_the_road_of_a_step_is_copy_event_wait_pinned_copy(fake):
    device, record = fake
    snapshots, latents = Snapshots(), device.put(torch.ones(1, 4, 2, 2))
    record.operations.clear()
    snapshot = snapshots.take(latents)

    def read():
        with snapshots.reading(snapshot) as copy:
            assert (to_host(copy) == 1).all()

    in_a_thread(read)
    names = [each.name for each in record.operations if each.name != "allocate"]
    assert names == [
        "copy",
        "record",
        "wait",
        "pin",
        "copy to host",
        "record",
        "synchronize event",
        "synchronize stream",
    ]
    assert order_faults(record.operations, threading.get_ident()) == []


def test_a_wait_on_the_sampler_s_thread_is_counted(fake):
    device, record = fake
    latents = device.put(torch.ones(2))
    assert device.waits(lambda: latents.sum().item()) == 1
    assert device.waits(device.api.synchronize) == 1
    assert device.waits(lambda: in_a_thread(device.api.synchronize)) == 0
    record.operations.clear()
    assert device.waits(lambda: latents + 1) == 0


@pytest.mark.parametrize(
    ("mode", "ignores", "breaks"),
    [("global", False, True), ("global", True, False), ("thread_local", False, False), ("relaxed", False, False)],
)
def test_only_a_global_capture_is_broken_by_another_thread_that_does_not_ignore_it(fake, mode, ignores, breaks):
    device, record = fake

    def work():
        if ignores:
            record.ignore_captures()
        device.api.Event().synchronize()

    def capture():
        with device.api.graph(device.api.CUDAGraph(), capture_error_mode=mode):
            in_a_thread(work)

    if breaks:
        with pytest.raises(RuntimeError, match="previous error during capture: synchronize event"):
            capture()
    else:
        capture()
    assert [each.name for each in record.operations][-1] == "capture ends"


def test_a_wait_of_the_capturing_thread_breaks_its_capture_in_every_mode(fake):
    device, _ = fake
    for mode in beside.MODES:
        with pytest.raises(RuntimeError), device.api.graph(device.api.CUDAGraph(), capture_error_mode=mode):
            device.api.synchronize()


def test_a_worker_that_does_not_ignore_captures_would_break_global_ones(fake, monkeypatch):
    device, record = fake
    snapshots, latents = Snapshots(), device.put(torch.ones(1, 4, 2, 2))

    def capture_while_reading():
        snapshot = snapshots.take(latents)

        def read():
            with snapshots.reading(snapshot) as copy:
                to_host(copy)

        with device.api.graph(device.api.CUDAGraph(), capture_error_mode="global"):
            in_a_thread(read)

    capture_while_reading()
    monkeypatch.setattr(record, "_ignoring", set())
    with pytest.raises(RuntimeError, match="during capture"):  # its stream exists, so it does not ask again
        capture_while_reading()
