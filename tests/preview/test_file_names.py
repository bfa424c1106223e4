"""Names that every system can hold."""

import re

import pytest
from safelight.preview.file_names import is_file_name, name_problem


@pytest.mark.parametrize(
    "path", ["a", "a/b.c", "a b/c", "ünï/日本", "100%", "a/../b", "./a", "it's (1) [2] {3} #4 & so"]
)
def test_a_path_that_every_system_can_hold_has_no_problem(path):
    assert name_problem(path) is None


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("a:b", ": cannot be in a name on Windows"),
        ("what?/x", "[?] cannot be"),
        ('a"b|c<d>e*', '" [*] < > [|] cannot be'),
        ("a./b", "ends in a dot or a blank"),
        ("a/b ", "ends in a dot or a blank"),
        ("a/.../b", "ends in a dot or a blank"),
        ("a\nb", "control character"),
        ("con/x", "con is the name of a device"),
        ("x" * 241, "longer than 240 bytes"),
    ],
)
def test_a_path_that_some_system_cannot_hold_has_a_problem(path, problem):
    assert re.search(problem, name_problem(path))


@pytest.mark.parametrize(
    "name", ["NUL", "Com1", "com1.png", "lpt9.tar.gz", "aux .png", "prn", "CONIN$", "com\N{SUPERSCRIPT TWO}.x"]
)
def test_a_device_of_windows_is_no_file_name_whatever_follows(name):
    assert "is the name of a device on Windows" in name_problem(name)
    assert not is_file_name(name)
    assert is_file_name(f"my {name}")


@pytest.mark.parametrize("name", ["", ".a", "a/b", "a\\b", "a:b", "a?", "a.", "nul.png"])
def test_a_name_that_some_system_cannot_hold_is_no_file_name(name):
    assert not is_file_name(name)
    assert is_file_name("step_0001_item_01.png")
