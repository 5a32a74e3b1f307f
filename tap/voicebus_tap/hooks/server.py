"""uvicorn: the application that the script hands over gets a door in front of it."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from ..door import Door

if TYPE_CHECKING:
    from ..tap import Tap


def install(tap: Tap) -> None:
    """Wraps ``uvicorn.Config``, through which every way of starting uvicorn passes."""
    config: Any = importlib.import_module("uvicorn.config").Config
    original_init, original_load = config.__init__, config.load

    @functools.wraps(original_init)
    def init(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        # An application that is named or made later can only be wrapped once it is there.
        now = not isinstance(app, str) and not kwargs.get("factory")
        original_init(self, Door(app, tap) if now else app, *args, **kwargs)

    @functools.wraps(original_load)
    def load(self: Any) -> None:
        original_load(self)
        if not isinstance(self.app, Door):
            self.loaded_app = Door(self.loaded_app, tap)

    config.__init__, config.load = init, load
