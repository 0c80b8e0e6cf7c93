"""Prints what a benchmark finds, and writes it down as a dated report."""

import datetime
import os
import pathlib
import platform
import shlex
import sys
from importlib import metadata


class Report:
    """Lines that go to the screen at once and, if wanted, to benchmarks/reports at the end."""

    def __init__(self, name: str, *, packages: tuple[str, ...] = ("jax", "numpy")):
        self._name = name
        self._lines: list[str] = []
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
        self.say(f"{processor()}, {os.cpu_count()} cores, {platform.system()}")
        self.say(f"Python {platform.python_version()}, {versions}")
        self.say(f"command: python {shlex.join(sys.argv)}")
        self.say(f"load average before the run (1, 5, 15 minutes): {load}")
        self.say("")

    def say(self, line: str) -> None:
        """Prints and remembers a line."""
        print(line, flush=True)
        self._lines.append(line)

    def write(self, note: str = "") -> pathlib.Path:
        """Writes benchmarks/reports/DATE-NAME.md."""
        today = datetime.date.today().isoformat()
        path = pathlib.Path(__file__).parent / "reports" / f"{today}-{self._name}.md"
        path.parent.mkdir(exist_ok=True)
        body = "\n".join(self._lines)
        text = f"# {self._name.replace('-', ' ').capitalize()}, {today}\n\n"
        path.write_text(f"{text}{note and note + chr(10) * 2}```\n{body}\n```\n")
        return path


def processor() -> str:
    """The processor's name."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
