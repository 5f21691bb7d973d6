"""Commands that look like PBS and run jobs as processes of this machine.

A job starts in the home folder with an environment of its own, as under PBS.  ``refuse`` says how many of the
next submissions fail.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

QSUB = """\
#!/bin/bash
here={here}
left=$(cat "$here/refuse" 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then
    echo $((left - 1)) > "$here/refuse"
    echo "qsub: cannot connect to server (errno=111)" >&2
    exit 1
fi
variables=()
while [ $# -gt 1 ]; do
    if [ "$1" = -v ]; then IFS=, read -r -a variables <<< "$2"; fi
    shift
done
script=$1
while ! mkdir "$here/numbering" 2>/dev/null; do sleep 0.05; done
number=$(($(cat "$here/last" 2>/dev/null || echo 0) + 1))
echo "$number" > "$here/last"
rmdir "$here/numbering"
cp "$script" "$here/$number.job"
name=$(sed -n 's/^#PBS -N //p' "$script")
logs=$(sed -n 's/^#PBS -o //p' "$script" | tr -d '"')
echo "$name" > "$here/$number.name"
cd {home}
env -i PATH=/usr/bin:/bin HOME={home} PBS_JOBID="$number.fake" "${{variables[@]}}" \\
    setsid bash "$here/$number.job" > "${{logs:-$here/}}$number.fake.OU" 2>&1 < /dev/null &
echo $! > "$here/$number.pid"
echo "$number.fake"
"""
QSELECT = """\
#!/bin/bash
here={here}
for pid in "$here"/*.pid; do
    [ -e "$pid" ] || continue
    number=$(basename "$pid" .pid)
    [ "$(cat "$here/$number.name")" = "$2" ] || continue
    grep -q '^State:.*[RSD] ' "/proc/$(cat "$pid")/status" 2>/dev/null && echo "$number.fake"
done
exit 0
"""
QDEL = """\
#!/bin/bash
here={here}
for job in "$@"; do
    kill -TERM -- "-$(cat "$here/${{job%%.*}}.pid")" 2>/dev/null
done
exit 0
"""


class FakePBS:
    """The commands, in a folder that belongs in front of the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder / "home"
        home.mkdir(parents=True)
        for name, text in (("qsub", QSUB), ("qselect", QSELECT), ("qdel", QDEL)):
            path = folder / name
            path.write_text(text.format(here=folder, home=home), encoding="utf-8")
            path.chmod(0o755)

    def refuse(self, count: int) -> None:
        """Let the next submissions fail."""
        (self.folder / "refuse").write_text(str(count), encoding="ascii")

    def submitted(self) -> int:
        """Number of accepted submissions."""
        return len(list(self.folder.glob("*.job")))

    def pids(self) -> dict[str, int]:
        """Process number by job number, of all jobs that are alive."""
        found = {p.stem: int(p.read_text(encoding="ascii")) for p in self.folder.glob("*.pid")}
        return {job: pid for job, pid in found.items() if _alive(pid)}

    def kill(self, job: str, number: int = signal.SIGKILL) -> None:
        """Take the machine away from under a job."""
        pid = self.pids()[job]
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            # It has not become the leader of a group yet.
            os.kill(pid, number)

    def close(self) -> None:
        """End what is left."""
        deadline = time.monotonic() + 20
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.1)
        for job in self.pids():
            self.kill(job)


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
