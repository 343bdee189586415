"""Writes the JSON Schema of specs into the package when it is built, and adds the zoo to a wheel."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from setuptools.command.build_py import build_py

FILE = "cnnspec.schema.json"  # beside this module


class BuildPy(build_py):  # type: ignore[misc]
    """setuptools' `build_py`, with the schema file written beside this module before the package's files are listed."""

    def run(self) -> None:
        """Write the schema file, then copy the package, or leave it in place for an editable installation."""
        file = Path(__file__).resolve()
        sys.path.insert(0, str(file.parents[2]))  # setuptools loads this file by its path
        from cnnspec.spec.schema import schema_text  # found once the path is set

        (file.parent / FILE).write_text(schema_text(), encoding="utf-8")
        super().run()
        if not self.editable_mode:  # an editable installation finds them in the checkout
            zoo = Path(self.build_lib, "cnnspec", "zoo")
            zoo.mkdir(parents=True, exist_ok=True)
            for spec in file.parents[2].glob("specs/*.yaml"):
                shutil.copy(spec, zoo)
