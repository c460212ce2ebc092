"""How functions are compiled: those that compiled code alone calls, as code of their callers.

Numba optimizes every function as a whole with all that it calls, and makes machine code of it. A
function deep in a loop is then compiled once for each function around it. Those that nothing but
compiled code calls are left as they are lowered, and are optimized where they are linked in, once.

What a kernel was linked with is its own. Numba tells functions of one name and one signature apart
by a number that counts within a process, and leaves them visible to the linker, which takes the
first of two that are called the same: a kernel from the cache would run parts of one that was
compiled here.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

#: Beginning of the names of the variables that Numba writes to when a function is ready.
_ENVIRONMENT = "_ZN08NumbaEnv"


class _Linked(JITCodeLibrary):
    """Code to link into callers, of which no machine code is made."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        whole = self._final_module
        names = [v.name for v in whole.global_variables if v.name.startswith(_ENVIRONMENT)]
        lines = [f'@"{name}" = common global i64 0' for name in names]
        alone = llvm.parse_assembly("\n".join(lines))
        alone.triple, alone.data_layout = whole.triple, whole.data_layout
        self._codegen._add_module(alone)  # type: ignore[no-untyped-call]
        self._codegen._engine.finalize_object()
        self._finalized = True


class _Whole(JITCodeLibrary):
    """Code of which only what Python calls is visible."""

    def _finalize_final_module(self) -> None:
        # After the optimizer, which would otherwise inline each function that has one caller.
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage is llvm.Linkage.linkonce_odr:
                function.linkage = llvm.Linkage.internal
        super()._finalize_final_module()  # type: ignore[no-untyped-call]


class _Compiler(Compiler):
    """Numba's compiler, with libraries of a kind of ours."""

    library: type[JITCodeLibrary]

    def define_pipelines(self) -> Any:
        """Its pipelines, which keep the function's code in a library of that kind."""
        name = self.state.func_id.func_qualname
        library: Any = self.library(self.state.targetctx.codegen(), name)
        library.enable_object_caching()
        self.state.library = library
        return super().define_pipelines()  # type: ignore[no-untyped-call]


class InnerCompiler(_Compiler):
    """For functions that only compiled code calls."""

    library = _Linked


class KernelCompiler(_Compiler):
    """For functions that Python calls."""

    library = _Whole
