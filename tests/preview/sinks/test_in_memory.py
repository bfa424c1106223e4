"""The pictures of a run in memory."""

from safelight.preview.sinks.in_memory import InMemory


def test_only_the_newest_pictures_stay_in_memory(show_steps):
    memory = InMemory(limit=3)
    assert memory.state == "running"
    show_steps(memory, 5)
    assert [picture.index for picture in memory.pictures] == [3, 4, 5]
    assert memory.state == "finished"
