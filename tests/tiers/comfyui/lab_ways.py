"""The ways in which a LabOddSampler counts its steps, for tests that cannot import the lab's nodes."""

COUNTING_WAYS = (
    *("integers", "numpy", "tensors", "floats", "backwards", "zeros", "beyond", "from -1"),
    *("texts", "nan", "halves", "huge", "without sigma", "once more", "restarts", "from a thread", "read-only"),
    *("elsewhere", "elsewhere backwards"),
)
# In these a step has the noise level that the schedule has for its number.
FOLLOWING_WAYS = (
    *("integers", "numpy", "tensors", "floats", "from -1", "texts", "nan", "halves", "huge"),
    *("once more", "from a thread", "elsewhere"),
)
