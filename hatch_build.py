"""Builds the compiled scanner into the package where a C compiler is there; without one it is left out."""

import tempfile
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.errors import BaseError, CCompilerError

SOURCE = "metering/native/scan.pyx"


class ScannerHook(BuildHookInterface[Any]):
    """Compiles `SOURCE` in its place; the plain path does the same work, so a failure is a warning."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's name
        """Compile, and mark the wheel as one for this machine."""
        for old in Path(self.root, SOURCE).parent.glob("scan.*.so"):
            old.unlink()  # of an earlier source, or of another interpreter
        try:
            self._compile()
        except (BaseError, CCompilerError) as error:
            self.app.display_warning(f"the scanner was not compiled, the plain path does its work: {error}")
            return
        build_data["artifacts"].append("metering/native/scan.*")
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def _compile(self) -> None:
        folder_of = str(Path(SOURCE).parent)
        options = {"include_dirs": [folder_of], "extra_compile_args": ["-O3", "-g0"]}
        extension = Extension("metering.native.scan", [SOURCE], **options)
        with tempfile.TemporaryDirectory() as folder:
            modules = cythonize([extension], build_dir=folder, quiet=True)
            command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
            command.inplace, command.build_temp = True, folder
            command.ensure_finalized()
            command.run()
