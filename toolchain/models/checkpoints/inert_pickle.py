"""Reads a pickle without running any of it: no class is imported and no function is called.

Whatever the pickle would look up by name becomes a placeholder that keeps what it would have been called with. Knows
nothing of tensors.
"""

import pickle
from collections.abc import Callable
from typing import IO, Any, ClassVar


class Placeholder(dict[Any, Any]):
    """Stands for a class; an instance for what a call of it would have made, with the entries that a mapping got.

    origin: its name with the module; arguments: of the call; state: what `__setstate__` or `__dict__` would have got.
    """

    origin: ClassVar[str] = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any, **_: Any) -> "Placeholder":
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __init__(self, *arguments: Any, **_: Any) -> None:
        """Without what a dict would take from the arguments."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *_: Any, **__: Any) -> "Placeholder":
        return Placeholder()

    def append(self, item: Any) -> None:
        """Of a class like a list: its items are of no interest."""

    extend = add = append
    __hash__ = object.__hash__  # type: ignore[assignment]  # it may be a key
    __eq__ = object.__eq__
    __ne__ = object.__ne__


class InertUnpickler(pickle.Unpickler):
    """persistent: makes what stands in the place of an object that is stored elsewhere in the file."""

    def __init__(self, file: IO[bytes], persistent: Callable[[Any], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._persistent, self._classes = persistent, dict[str, type[Placeholder]]()

    def find_class(self, module_name: str, global_name: str, /) -> type[Placeholder]:
        origin = f"{module_name}.{global_name}"
        if origin not in self._classes:
            self._classes[origin] = type("Placeholder", (Placeholder,), {"origin": origin})
        return self._classes[origin]

    def persistent_load(self, pid: Any) -> Any:
        return self._persistent(pid)
