"""All rows of tiny pipelines besides those of `FAMILIES`."""

from rows_of_images import ROWS as IMAGES
from rows_of_kandinsky import ROWS as WITH_PRIORS
from rows_of_other_images import ROWS as OTHER_IMAGES
from rows_of_videos import ROWS as VIDEOS
from rows_of_videos_with_sound import ROWS as VIDEOS_WITH_SOUND

ROWS = (*IMAGES, *OTHER_IMAGES, *WITH_PRIORS, *VIDEOS, *VIDEOS_WITH_SOUND)
