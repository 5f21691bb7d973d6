"""The recipes: one subject per module, declaration and body side by side.

Importing this package imports every module in it, which registers the declarations; there is no list
to maintain.  Bodies import their kernels inside the function, so that planning needs no compiler.
"""

from __future__ import annotations

import importlib
import pkgutil

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
