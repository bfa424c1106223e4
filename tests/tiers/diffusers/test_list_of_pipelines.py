"""Every class of pipelines that diffusers exports has a watched run in a test, or a reason why not."""

import inspect
from collections import Counter
from pathlib import Path

import diffusers
import pytest
from pipeline_rows import ROWS
from tiny_modular import MODULAR
from tiny_pipelines import FAMILIES
from untried import NOT_YET, NOTHING_TO_WATCH

FOLDER = Path(__file__).parent
BASES = {"DiffusionPipeline", "ModularPipeline", "FlaxDiffusionPipeline"}
# Classes whose watched run is in a test of its own.
IN_OTHER_FILES = {
    "AnyFlowFARPipeline": "test_parts_of_videos.py",
    "CosmosTextToWorldPipeline": "test_parts_of_videos.py",
    "HeliosPyramidPipeline": "test_parts_of_videos.py",
    "Kandinsky5T2VPipeline": "test_parts_of_videos.py",
    "LTXImageToVideoPipeline": "test_parts_of_videos.py",
    "SkyReelsV2DiffusionForcingPipeline": "test_silence.py",
    "StableCascadeCombinedPipeline": "test_silence.py",
    "StableDiffusionPanoramaPipeline": "test_crops.py",
    "StableDiffusionXLImg2ImgPipeline": "test_refiner.py",
    "TextToVideoZeroPipeline": "test_parts_of_videos.py",
}
TRIED = {
    *(tiny.kind for tiny in (*FAMILIES.values(), *ROWS)),
    *(f"{family}ModularPipeline" for family in MODULAR),
    *IN_OTHER_FILES,
}
FEWEST_TRIED = 291  # of 345 in diffusers 0.42.1; raise it with every class that is added


def exported():
    """Names of all classes of pipelines, also of those whose library is not installed."""
    found = {name: getattr(diffusers, name) for name in dir(diffusers) if "Pipeline" in name}
    return {
        name
        for name, kind in found.items()
        if inspect.isclass(kind) and name not in BASES and (is_pipeline(kind) or is_stand_in(kind))
    }


def is_pipeline(kind):
    return issubclass(kind, diffusers.DiffusionPipeline | diffusers.ModularPipeline)


def is_stand_in(kind):
    return type(kind).__name__ == "DummyObject"


def is_newest():
    return tuple(map(int, diffusers.__version__.split(".")[:2])) >= (0, 42)


def test_every_pipeline_is_tried_or_has_a_reason():
    excused = [name for names in (*NOTHING_TO_WATCH.values(), NOT_YET) for name in names]
    rows = Counter([*TRIED, *excused])
    assert [name for name, count in rows.items() if count > 1] == []
    assert sorted(exported() - set(rows)) == []
    if is_newest():
        assert sorted(set(rows) - exported()) == []
    assert len(TRIED) >= FEWEST_TRIED
    print(f"{len(TRIED)} tried, {len(excused) - len(NOT_YET)} have nothing to watch, {len(NOT_YET)} not yet tried")


@pytest.mark.parametrize("name", IN_OTHER_FILES)
def test_a_file_creates_the_pipeline_that_it_is_listed_with(name):
    assert f"diffusers.{name}(" in (FOLDER / IN_OTHER_FILES[name]).read_text(encoding="utf-8")
