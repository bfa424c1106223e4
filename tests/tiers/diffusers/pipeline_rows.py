"""All rows of tiny pipelines besides those of `FAMILIES`."""

from rows_of_images import ROWS as IMAGES
from rows_of_other_images import ROWS as OTHER_IMAGES
from rows_of_videos import ROWS as VIDEOS

ROWS = (*IMAGES, *OTHER_IMAGES, *VIDEOS)
