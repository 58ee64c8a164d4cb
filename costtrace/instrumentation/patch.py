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
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

from costtrace.caller import stack_level
from costtrace.exceptions import InstrumentationWarning

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
        self._original: Any = None
        self._spare: tuple[Any, Any, Any] = (None, None, None)
        """A class, its method, and the wrapper that was on it: scopes come and go all the time."""

    def apply(self, module: ModuleType) -> bool:
        """Wrap the method; return False where there is none to wrap."""
        owner = getattr(module, self.owner, None)
        if self._handle is None and self._put_back(owner):
            return True
        import wrapt

        if not callable(getattr(owner, self.name, None)):
            return False
        if self._handle is None or self._was_overwritten(owner):
            self._original = vars(owner).get(self.name)
            self._handle = wrapt.wrap_function_wrapper(owner, self.name, self._observe)
        self.is_applied = True
        return True

    def _put_back(self, owner: Any) -> bool:
        """Apply the wrapper that was there before, where it would become the same again."""
        known, original, handle = self._spare
        if known is None or known is not owner or vars(owner).get(self.name) is not original:
            return False
        setattr(owner, self.name, handle)
        self._handle, self._original = handle, original
        self.is_applied = True
        return True

    def _take_off(self, owner: Any) -> bool:
        """Restore the method where nobody else has done anything to it since."""
        handle, original = self._handle, self._original
        if original is None or vars(owner).get(self.name) is not handle:
            return False
        if handle.__wrapped__ is not original:
            return False  # what was below us has been taken off
        setattr(owner, self.name, original)
        self._spare = (owner, original, handle)
        self._handle = self._original = None
        return True

    def _was_overwritten(self, owner: Any) -> bool:
        """Tell whether somebody has put back the method that we found, and so taken us off."""
        return self._original is not None and vars(owner).get(self.name) is self._original

    def remove(self, module: ModuleType) -> None:
        """Take the wrapper off again, if nobody sits on top of it."""
        if not self.is_applied:
            return
        self.is_applied = False
        owner = getattr(module, self.owner)
        if self._take_off(owner):
            return
        import wrapt

        try:
            wrapt.unwrap_object(owner, self.name, self._handle)
        except wrapt.WrapperNotOutermostError:
            return  # kept, and silent; `apply` switches it on again
        except wrapt.WrapperNotFoundError:
            if not self._was_overwritten(owner):
                return  # below a plain closure, where nobody can look
        self._handle = self._original = None

    def _observe(
        self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not self.is_applied:
            return wrapped(*args, **kwargs)
        return self._wrapper(wrapped, instance, args, kwargs)


class PatchedModule:
    """The patches of one module of an SDK, applied to it as soon as it is imported."""

    def __init__(self, sdk: str, module: str, patches: tuple[Patch, ...]) -> None:
        self.sdk = sdk
        self.module = module
        self.patches = patches
        self._lock = threading.RLock()
        self._is_wanted = False
        self._is_hooked = False
        self._has_warned = False

    def apply(self) -> None:
        """Patch the module now, or when it is imported."""
        with self._lock:
            self._is_wanted = True
            module = sys.modules.get(self.module)
            if module is not None:
                self._apply_to(module)
            if not self._is_hooked:
                self._is_hooked = True
                self._hook_import()

    def remove(self) -> None:
        """Restore the module."""
        with self._lock:
            self._is_wanted = False
            module = sys.modules.get(self.module)
            if module is not None:
                for patch in reversed(self.patches):
                    patch.remove(module)

    @property
    def is_applied(self) -> bool:
        """Whether calls of this SDK are seen."""
        return all(patch.is_applied for patch in self.patches if patch.is_required)

    def _apply_to(self, module: ModuleType) -> None:
        is_initializing = getattr(getattr(module, "__spec__", None), "_initializing", False)
        if is_initializing and not all(hasattr(module, one.owner) for one in self.patches):
            self._apply_when_imported()
            return
        for patch in self.patches:
            if not patch.apply(module) and patch.is_required:
                self._warn(f"{self.module} has no {patch.owner}.{patch.name}")

    def _apply_when_imported(self) -> None:
        """Wait, in a thread of its own, for the thread that is in the middle of importing it."""

        def wait() -> None:
            try:
                self._imported(import_module(self.module))
            except Exception:
                log.debug("%s could not be imported", self.module, exc_info=True)

        threading.Thread(target=wait, name="costtrace-import", daemon=True).start()

    def _hook_import(self) -> None:
        import wrapt

        wrapt.register_post_import_hook(self._imported, self.module)

    def _imported(self, module: ModuleType) -> None:
        try:  # whatever is wrong here, the user's import goes on
            with self._lock:
                if self._is_wanted:
                    self._apply_to(module)
        except Exception:
            log.exception("%s could not be patched when it was imported", self.module)

    def _warn(self, why: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"calls of the {self.sdk} SDK are not seen: {why}",
                InstrumentationWarning,
                stacklevel=stack_level(),
            )
