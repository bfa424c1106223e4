"""The color of Safelight's progress bars: orange, as the lamp in a darkroom."""

ACCENT = (255, 138, 61)  # red, green, blue
ACCENT_OF_256 = 208  # the nearest of the 256 colors that a terminal may have
