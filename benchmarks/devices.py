"""What it costs a device to take part: memory, CPU time, bytes. As `python -m discreet.client`: without a compiler.

    python benchmarks/devices.py --out docs

A model of the size that the recipe chooses for so many people is learnt from synthetic ones, so that its passes are as
large as they would be. Each device is a process of its own, which imports what a device imports, reads what the
coordinator tells, computes its row, and takes part among as many others as there are in a session.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pages import fenced
from quality import machine

from discreet.evaluation.audit.people import crowd, opened
from discreet.evaluation.transcripts import Watched
from discreet.models.broadcast import Broadcast, bits_for
from discreet.models.recipe import recipe
from discreet.privacy.accounting import cap
from discreet.training.populations import Here
from discreet.training.rounds import train

HEAD = """# Devices, measured

Written by `benchmarks/devices.py`: what it printed. What it means: [federated training](federated.md).

"""

INTERPRETED = os.environ | {"NUMBA_DISABLE_JIT": "1"}

DEVICE = """
import json, os, sys, time
from pathlib import Path
started = time.process_time()
import discreet.client.__main__
from discreet.models.broadcast import MOST, Broadcast
from discreet.privacy.mechanisms.discrete_gaussian import draw, share_of
from discreet.randomness import NoiseSource
imported = time.process_time()
folder, items, history, neighbours = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
import numpy as np
content = (folder / "broadcast").read_bytes()
message = Broadcast.from_bytes(content, MOST)
known = message.read(message.catalogue, items)
row = known.row(np.array(history), known.plan.bounds[known.number])
computed = time.process_time()
vector = row + draw(row.size, share_of(known.plan.honest), NoiseSource())
drawn = time.process_time()
ring = known.ring(row.size)
residues = ring.lower(vector)
ring.mask(residues, [os.urandom(32) for _ in range(neighbours // 2)], [os.urandom(32) for _ in range(neighbours // 2)])
packed = ring.pack(residues)
masked = time.process_time()
told = Path("/proc/self/status").read_text()
print(json.dumps({
    "import": imported - started, "row": computed - imported, "noise": drawn - computed, "mask": masked - drawn,
    "values": row.size, "bits": ring.bits, "down": len(content), "up": len(packed),
    "peak": int(told.partition("VmHWM:")[2].split()[0]) * 1024,
}))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, help="folder of the page devices-measured.md")
    arguments.add_argument("--items", type=int, default=4_000)
    arguments.add_argument("--people", type=int, nargs="+", default=[500, 6_000, 20_000])
    arguments.add_argument("--runs", type=int, default=7)
    asked = arguments.parse_args()
    lines = [f"{machine()}; median and range of {asked.runs} processes", "", HEADINGS]
    for people in asked.people:
        for kind in ("popularity", "subspace", "gram"):
            lines.append(measured(kind, people, asked.items, asked.runs))
            print(lines[-1], flush=True)
    if asked.out:
        (asked.out / "devices-measured.md").write_text(HEAD + fenced(lines))


HEADINGS = (
    f"{'people':>7} {'model':<11} {'values':>10} {'ring':>5} {'kB down':>8} {'kB up':>8} "
    f"{'import s':>17} {'row ms':>22} {'noise ms':>22} {'mask ms':>22} {'peak MB':>19}"
)


def measured(kind: Any, people: int, items: int, runs: int) -> str:
    """Return the line of one model: its last and largest round, for somebody with a hundred items."""
    model, plan = recipe(people, items, cap(8.0, 1e-6), delta=1e-6, kind=kind)
    parties = min(people, 600)
    plan = replace(plan, noise="shares", parties=parties, honest=parties)
    watched = Watched(model)
    some = opened(crowd(min(people, 6_000), items, 200, np.random.default_rng(0)))
    train(watched, Here(some), replace(plan, noise="none", parties=0, honest=0), spend=lambda _: None)
    said = Broadcast.of(model, plan, plan.rounds - 1, parties, sha256(b"").digest(), watched.states[-1])
    history = np.sort(np.random.default_rng(1).choice(items, 100, replace=False)).tolist()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "broadcast").write_bytes(said.to_bytes())
        command = [sys.executable, "-c", DEVICE, folder, str(items), json.dumps(history), "60"]
        for _ in range(runs):
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=INTERPRETED)
            found.append(json.loads(done.stdout))
    if found[0]["bits"] != bits_for(plan, parties):
        raise RuntimeError("a device reckons with another ring")
    one = found[0]
    times = " ".join(f"{spread([1e3 * each[what] for each in found]):>22}" for what in ("row", "noise", "mask"))
    sizes = f"{one['values']:>10,} {one['bits']:>5} {one['down'] / 1e3:>8,.0f} {one['up'] / 1e3:>8,.0f}"
    imports, peak = spread([each["import"] for each in found], 2), spread([each["peak"] / 1e6 for each in found])
    return f"{people:>7,} {kind:<11} {sizes} {imports:>17} {times} {peak:>19}"


def spread(values: list[float], digits: int = 1) -> str:
    """Return the median and the range."""
    return f"{np.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


if __name__ == "__main__":
    main()
