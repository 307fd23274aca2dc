"""Wall time of ``qnoise --help`` divided by that of an empty interpreter: fastest of ten each, interleaved.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time


def main() -> None:
    forms = {"empty interpreter": ("-c", "pass"), "qnoise --help": ("-m", "studies.cli", "--help")}
    fastest = dict.fromkeys(forms, float("inf"))
    for _ in range(10):
        for name, arguments in forms.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            fastest[name] = min(fastest[name], time.perf_counter() - started)
    print(f"qnoise --help takes {fastest['qnoise --help'] / fastest['empty interpreter']:.1f} empty interpreters")


if __name__ == "__main__":
    main()
