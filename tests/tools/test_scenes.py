"""Properties of the generated scenes."""

import time

import numpy as np
import pytest
from safelight.errors import SafelightError
from safelight.tools.scenes import SCENES, draw_scene, scene_title

SIZE = 24


@pytest.fixture(scope="module")
def pictures():
    return {name: draw_scene(name, SIZE) for name in SCENES}


def test_there_are_six_scenes_with_different_titles():
    assert len(set(SCENES)) == 6
    assert len({scene_title(name) for name in SCENES}) == 6


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_has_the_requested_size(pictures, name):
    picture = pictures[name]
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.float32
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_drawn_twice_is_bit_identical(pictures, name):
    assert draw_scene(name, SIZE).tobytes() == pictures[name].tobytes()


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_has_light_shade_and_color(pictures, name):
    picture = pictures[name]
    assert np.percentile(picture, 95) - np.percentile(picture, 5) > 0.35
    assert (picture.max(-1) - picture.min(-1)).mean() > 0.04
    assert 0.15 < picture.mean() < 0.8


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_looks_the_same_at_twice_the_size(pictures, name):
    halved = draw_scene(name, 2 * SIZE).reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3))
    assert np.corrcoef(halved.ravel(), pictures[name].ravel())[0, 1] > 0.8


def test_scenes_are_different(pictures):
    flat = np.stack([picture.ravel() for picture in pictures.values()])
    assert (np.corrcoef(flat) - np.eye(len(flat))).max() < 0.8


@pytest.mark.parametrize("size_px", [1, 5])
@pytest.mark.parametrize("name", SCENES)
def test_a_scene_may_be_tiny_or_odd(name, size_px):
    assert draw_scene(name, size_px).shape == (size_px, size_px, 3)


def test_drawing_does_not_change_the_global_random_state():
    state = np.random.get_state()
    for name in SCENES:
        draw_scene(name, 4)
    after = np.random.get_state()
    assert state[2:] == after[2:]
    assert np.array_equal(state[1], after[1])


def test_a_small_scene_takes_little_time():
    started = time.process_time()
    draw_scene("lighthouse", 16)
    assert time.process_time() - started < 3


def test_an_unknown_scene_is_refused_with_the_list_of_scenes():
    with pytest.raises(SafelightError, match="'sunset'; choose one of oranges"):
        draw_scene("sunset", 8)
    with pytest.raises(SafelightError, match="'sunset'"):
        scene_title("sunset")
