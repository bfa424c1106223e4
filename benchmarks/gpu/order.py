"""The rules of order that a recorded run has to keep."""

from collections.abc import Sequence

from .fake_device import WAITS, Operation


def order_faults(operations: Sequence[Operation], sampler: int) -> list[str]:
    """What in a record goes against the rules, in words; empty if nothing does.

    The sampler's thread copies on its own stream, records an event there, and waits for nothing. Another thread works
    on another stream, which waits for that event first. It copies to pinned memory only, waits for an event before the
    pixels are used, and memory is written again only after the stream that reads it is done.

    Args:
        operations: record of a run.
        sampler: id of the sampler's thread.
    """
    return [
        *_faults_of_sampler([each for each in operations if each.thread == sampler]),
        *_faults_of_readers(operations, sampler),
        *_faults_of_memory(operations, sampler),
    ]


def _faults_of_sampler(operations: Sequence[Operation]) -> list[str]:
    faults = [f"the sampler's thread waits: {each.name}" for each in operations if each.name in WAITS]
    for index, each in enumerate(operations):
        if each.name == "copy":
            after = operations[index + 1] if index + 1 < len(operations) else None
            if after is None or (after.name, after.stream) != ("record", each.stream):
                faults.append(f"no event follows the copy on {each.stream}")
    return faults


def _faults_of_readers(operations: Sequence[Operation], sampler: int) -> list[str]:
    faults = []
    recorded = {each.what: each.stream for each in operations if each.thread == sampler and each.name == "record"}
    unfinished: dict[int, str] = {}  # by thread: what has to follow its copy to the host
    for each in operations:
        if each.thread == sampler:
            continue
        if each.stream in recorded.values():
            faults.append(f"another thread works on the sampler's {each.stream}: {each.name}")
        if each.name == "wait" and each.what not in recorded:
            faults.append(f"a stream waits for {each.what}, which the sampler has not recorded")
        if each.name == "copy to host":
            if each.what != "pinned":
                faults.append("pixels are copied to memory that is not pinned")
            if each.thread in unfinished:
                faults.append("pixels are used before their copy is complete")
            unfinished[each.thread] = each.stream
        elif each.name == "synchronize event":
            unfinished.pop(each.thread, None)
    faults += ["pixels are used before their copy is complete" for _ in unfinished]
    waited = {each.what for each in operations if each.name == "wait"}
    copied = [each for each in operations if each.thread == sampler and each.name == "copy"]
    if copied and not waited & recorded.keys():
        faults.append("no stream waits for the sampler's copies")
    return faults


def _faults_of_memory(operations: Sequence[Operation], sampler: int) -> list[str]:
    faults = []
    memory_of: dict[str, str] = {}  # by event: the memory that it marks as written
    reading: dict[str, set[str]] = {}  # by stream: the memory that it reads
    written = ""
    for each in operations:
        if each.thread == sampler and each.name == "copy":
            written = each.what
            if any(written in memory for memory in reading.values()):
                faults.append("memory is written again while it is read")
        elif each.thread == sampler and each.name == "record":
            memory_of[each.what] = written
        elif each.name == "wait" and each.what in memory_of:
            reading.setdefault(each.stream, set()).add(memory_of[each.what])
        elif each.name == "synchronize stream":
            reading.pop(each.stream, None)
    return faults
