"""How functions are compiled that compiled code alone calls: as code of their callers.

Numba optimizes every function as a whole with all that it calls, and makes machine code of it. A
function deep in a loop is then compiled once for each function around it. Those that nothing but
compiled code calls are left as they are lowered, and are optimized where they are linked in, once.
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


class InnerCompiler(Compiler):
    """Numba's compiler, for functions that only compiled code calls."""

    def define_pipelines(self) -> Any:
        """Its pipelines, which keep the function's code in a library of that kind."""
        name = self.state.func_id.func_qualname
        library: Any = _Linked(self.state.targetctx.codegen(), name)  # type: ignore[no-untyped-call]
        library.enable_object_caching()
        self.state.library = library
        return super().define_pipelines()  # type: ignore[no-untyped-call]
