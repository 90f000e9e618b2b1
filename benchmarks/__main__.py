"""Run all benchmarks, or those named, and write build/bench.json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
NOT_BENCHMARKS = {
    "__init__",
    "__main__",
    "bare_chain",
    "bench_site",
    "evaluator_plant",
    "figures",
    "json_chain",
    "load",
    "modbus_farm",
}


def main() -> int:
    """Run each in its own process; return 1 if one of them failed to run."""
    known = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NOT_BENCHMARKS)
    names = sys.argv[1:] or known
    results, failed = [], False
    for name in names:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout, flush=True)
        if done.returncode or not done.stdout.strip():
            failed = True
            continue
        results.append(json.loads(done.stdout.strip().splitlines()[-1]))
    build = FOLDER.parent / "build"
    build.mkdir(exist_ok=True)
    (build / "bench.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
