"""The patched SDK methods: on with the first scope, off with the last, restored exactly.

Every call of both SDKs, of every resource and in every shape, passes once through the `request`
method of its client class, retries included. What else is patched only listens: `_process_response`
tells of the answer's retries and headers, `_calculate_retry_timeout` of each failed attempt.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

from costtrace.exceptions import InstrumentationWarning
from costtrace.providers import Provider

log = logging.getLogger("costtrace")
Wrapper: TypeAlias = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


class Patch:
    """One method of one SDK class, wrapped while it is applied.

    Another tool may have wrapped the method after us, or kept ours: taking its wrapper off is not
    ours to do, so ours then stays in place and passes everything through.
    """

    def __init__(self, owner: str, name: str, wrapper: Wrapper, *, is_required: bool) -> None:
        self.owner = owner
        self.name = name
        self.is_required = is_required
        self.is_applied = False
        self._wrapper = wrapper
        self._handle: Any = None

    def apply(self, module: ModuleType) -> bool:
        """Wrap the method; return False where there is none to wrap."""
        import wrapt

        if self.is_applied:
            return True
        owner = getattr(module, self.owner, None)
        if not callable(getattr(owner, self.name, None)):
            return False
        self.is_applied = True
        if self._handle is None:
            self._handle = wrapt.wrap_function_wrapper(owner, self.name, self._observe)
        return True

    def remove(self, module: ModuleType) -> None:
        """Take the wrapper off again, if nobody sits on top of it."""
        import wrapt

        if not self.is_applied:
            return
        self.is_applied = False
        owner = getattr(module, self.owner)
        try:
            wrapt.unwrap_object(owner, self.name, self._handle, missing_ok=True)
        except wrapt.WrapperNotOutermostError:
            return  # kept, and silent; `apply` switches it on again
        self._handle = None

    def _observe(
        self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not self.is_applied:
            return wrapped(*args, **kwargs)
        return self._wrapper(wrapped, instance, args, kwargs)


class PatchedSDK:
    """The patches of one SDK, applied to it as soon as it is imported."""

    def __init__(self, provider: Provider, patches: tuple[Patch, ...]) -> None:
        self.provider = provider
        self.patches = patches
        self._lock = threading.RLock()
        self._is_wanted = False
        self._is_hooked = False
        self._has_warned = False

    def apply(self) -> None:
        """Patch the SDK now, or when it is imported."""
        with self._lock:
            self._is_wanted = True
            module = sys.modules.get(self.provider.module)
            if module is not None:
                self._apply_to(module)
            if not self._is_hooked:
                self._is_hooked = True
                self._hook_import()

    def remove(self) -> None:
        """Restore the SDK."""
        with self._lock:
            self._is_wanted = False
            module = sys.modules.get(self.provider.module)
            if module is not None:
                for patch in reversed(self.patches):
                    patch.remove(module)

    @property
    def is_applied(self) -> bool:
        """Whether calls of this SDK are seen."""
        return all(patch.is_applied for patch in self.patches if patch.is_required)

    def _apply_to(self, module: ModuleType) -> None:
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            return  # another thread is still importing it: the import hook comes afterwards
        for patch in self.patches:
            if not patch.apply(module) and patch.is_required:
                self._warn(f"{self.provider.module} has no {patch.owner}.{patch.name}")

    def _hook_import(self) -> None:
        import wrapt

        wrapt.register_post_import_hook(self._imported, self.provider.module)

    def _imported(self, module: ModuleType) -> None:
        try:  # whatever is wrong here, the user's import goes on
            with self._lock:
                if self._is_wanted:
                    self._apply_to(module)
        except Exception:
            log.exception("%s could not be patched when it was imported", self.provider.module)

    def _warn(self, why: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"calls of the {self.provider.name} SDK are not seen: {why}",
                InstrumentationWarning,
                stacklevel=2,
            )
