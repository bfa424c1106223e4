"""Objects that hang on a MODEL and are shared by all its copies."""

import uuid
from typing import Any
from weakref import WeakValueDictionary

# For pickled objects that are read again in this process. A second copy of this pack has its own.
SHARED: "WeakValueDictionary[str, Shared]" = WeakValueDictionary()


class Shared:
    """Base class of what hangs on a MODEL: a copy of it, shallow, deep or pickled, is the object itself.

    Some packs deep-copy a MODEL with everything that hangs on it. A real copy would duplicate the VAE and the models
    that we refer to, would fail at locks, and would record runs where the output `steps` does not look.
    """

    def __copy__(self) -> "Shared":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shared":
        return self

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        key = vars(self).setdefault("_shared_key", uuid.uuid4().hex)
        SHARED[key] = self
        return find_shared, (key,)


class PassThrough(Shared):
    """A wrapper of a sampler that changes nothing, in place of a pickled one that this process does not have."""

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        return executor(*args, **kwargs)


def find_shared(key: str) -> Shared:
    """The pickled object, if this process still has it."""
    return SHARED.get(key) or PassThrough()
