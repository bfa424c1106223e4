"""Which sinks must receive every step."""

from safelight.preview.images.animated import Pace
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.sinks.animation import Animation
from safelight.preview.sinks.contact_sheet import ContactSheet
from safelight.preview.sinks.live_view import LiveView
from safelight.preview.sinks.step_files import StepFiles


def test_files_need_every_step_and_screens_do_not(folder):
    files = StepFiles(folder, ImageEncoding())
    assert files.delivery.every_step
    assert ContactSheet(folder).delivery.every_step
    assert Animation(folder, Pace(8.0, 1.5)).delivery.every_step
    assert not LiveView(files, lambda *_: None, {}).delivery.every_step
    assert not folder.delivery.every_step
