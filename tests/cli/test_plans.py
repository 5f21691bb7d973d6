"""Plans as files: written whole, compared, drawn."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from apero_dask.cli.processing import main
from apero_dask.cli.tools import main as tools

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = "MASTER_OBS_DIR = 2018-09-25\nSCIENCE_TARGETS = Gl699, TOI-442\n"
FIELDS = {
    "key",
    "short",
    "recipe",
    "tier",
    "inputs",
    "options",
    "outputs",
    "selects",
    "depends",
    "resources",
    "state",
}


def plan(root: Path, target: Path, text: str, *args: str) -> list[dict[str, object]]:
    run_file = target.with_suffix(".ini")
    run_file.write_text(text, encoding="utf-8")
    assert main(["--data", str(root), "SPIROU", str(run_file), "--plan", str(target), *args]) == 0
    return [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


def test_a_plan_has_one_complete_record_per_run(headers: Path, tmp_path: Path) -> None:
    records = plan(headers, tmp_path / "p.jsonl", BASE + "id1 = limited_seq\n")
    runs = [r for r in records if "short" in r]
    nodes = [r for r in records if "node" in r]
    assert len(runs) == 276
    assert {r["key"].rpartition("-")[0] or r["key"] for r in nodes} == {"GATE", "PCA1", "PCA2"}
    for record in runs:
        assert set(record) >= FIELDS
        assert ("object" in record) != ("obs_dir" in record)
    known = {r["key"] for r in records}
    assert all(set(r.get("depends", ())) <= known for r in records)


def test_plan_files_do_not_depend_on_the_hash_seed(headers: Path, tmp_path: Path) -> None:
    run_file = tmp_path / "run.ini"
    run_file.write_text(BASE + "id1 = full_seq\n", encoding="utf-8")
    texts = []
    for seed in ("0", "1", "4711"):
        target = tmp_path / f"{seed}.jsonl"
        command = [sys.executable, "-m", "apero_dask", "--data", str(headers), "SPIROU", str(run_file)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [*command, "--plan", str(target)], check=True, cwd=ROOT, env=environment, capture_output=True
        )
        texts.append(target.read_bytes())
    assert texts[0] == texts[1] == texts[2]


def test_a_plan_that_cannot_be_written_is_said(
    headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.ini").write_text("id1 = pp_seq\n", encoding="utf-8")
    target = tmp_path / "no" / "plan.jsonl"
    assert main(["--data", str(headers), "SPIROU", str(tmp_path / "run.ini"), "--plan", str(target)]) == 5
    assert "cannot be written" in capsys.readouterr().err
    assert not target.parent.exists()


def test_a_full_plan_device_leaves_nothing_behind(
    headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.ini").write_text("id1 = pp_seq\n", encoding="utf-8")
    before = tmp_path / "plan.jsonl"
    before.write_text("earlier\n", encoding="utf-8")

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    assert main(["--data", str(headers), "SPIROU", str(tmp_path / "run.ini"), "--plan", str(before)]) == 5
    assert "No space left on device" in capsys.readouterr().err
    assert before.read_text(encoding="utf-8") == "earlier\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.jsonl", "run.ini"]


def test_a_plan_goes_into_a_pipe_without_replacing_it(headers: Path, tmp_path: Path) -> None:
    (tmp_path / "run.ini").write_text("id1 = pp_seq\n", encoding="utf-8")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    assert main(["--data", str(headers), "SPIROU", str(tmp_path / "run.ini"), "--plan", str(pipe)]) == 0
    reader.join(timeout=30)
    assert pipe.is_fifo(), "a device or pipe is written to, not replaced"
    assert len(received[0].splitlines()) == 146


def test_a_plan_follows_a_link(headers: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "far" / "plan.jsonl", tmp_path / "plan.jsonl"
    target.parent.mkdir()
    link.symlink_to(target)
    plan(headers, link, BASE + "id1 = pp_seq\n")
    assert link.is_symlink()
    assert len(target.read_text(encoding="utf-8").splitlines()) == 146


def test_listing_shows_every_step_with_reasons(
    headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.ini").write_text(BASE + "RUN_CCF = False\nid1 = limited_seq\n", encoding="utf-8")
    assert main(["--data", str(headers), "SPIROU", str(tmp_path / "run.ini"), "--test"]) == 0
    text = capsys.readouterr().out
    assert len([line for line in text.splitlines() if line.startswith("T ")]) == 262
    assert "switched off: RUN_CCF = False" in text
    assert "no DARK_DARK_TEL frame on 2018-09-27" in text
    assert re.search(r"262 runs planned, 262 to execute, 0 skipped", text)
    assert "core-hours" in text and "longest chain" in text and "largest run 4.0 GB (SHAPEM)" in text
    assert f"raw      {headers}/raw (--data)" in text
    assert not (headers / "reduced").exists()


def test_equal_plans_do_not_differ(headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(headers, tmp_path / "a.jsonl", BASE + "id1 = limited_seq\n")
    plan(headers, tmp_path / "b.jsonl", "# the same\n" + BASE + "id00001 = limited_run\n")
    capsys.readouterr()
    assert tools(["plan", "diff", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 0
    assert capsys.readouterr().out.strip() == "The plans are equal."


def test_a_difference_is_told_by_what_runs_make(
    headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(headers, tmp_path / "a.jsonl", BASE + "id1 = limited_seq\n")
    plan(headers, tmp_path / "b.jsonl", BASE + "id1 = limited_seq\n", "--exclude_obs_dirs", "2018-09-26")
    capsys.readouterr()
    assert tools(["plan", "diff", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 1
    text = capsys.readouterr().out
    # 276 - 200 runs of the worked example vanish; keys of the others move and must not count.
    gone = [int(n) for n in re.findall(r"^- \S+: (\d+) run", text, re.MULTILINE)]
    assert sum(gone) == 76
    assert not re.search(r"^\+", text, re.MULTILINE)
    assert re.search(r"^~ DARKM: 1 run\(s\) differ$", text, re.MULTILINE)
    assert not re.search(r"^~ PP", text, re.MULTILINE)


def test_a_file_that_is_no_plan_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"key": "x", "short": "PP"}\nnot json\n', encoding="utf-8")
    assert tools(["plan", "diff", str(bad), str(bad)]) == 2
    assert "bad.jsonl:2" in capsys.readouterr().err
    for line in ('{"key": 1, "short": "PP"}', '{"key": "x"}', "[1]", "{}"):
        bad.write_text(line + "\n", encoding="utf-8")
        assert tools(["graph", str(bad)]) == 2
        assert "bad.jsonl:1: not a plan record" in capsys.readouterr().err
    assert tools(["graph", str(tmp_path / "missing.jsonl")]) == 2
    assert "missing.jsonl" in capsys.readouterr().err


def test_graph_folds_to_steps_and_nights(
    headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(headers, tmp_path / "p.jsonl", BASE + "id1 = limited_seq\n")
    capsys.readouterr()
    assert tools(["graph", str(tmp_path / "p.jsonl")]) == 0
    dot = capsys.readouterr().out
    assert dot.startswith("digraph plan {") and dot.rstrip().endswith("}")
    assert '"PP\\n57 runs"' in dot and 'label="2018-09-26"' in dot and "GATE-MASTER_OK" in dot
    assert tools(["graph", str(tmp_path / "p.jsonl"), "--format", "mermaid", "--steps"]) == 0
    mermaid = capsys.readouterr().out
    assert mermaid.startswith("flowchart LR")
    assert '["PP<br/>146 runs"]' in mermaid


def test_graph_draws_svg(headers: Path, tmp_path: Path) -> None:
    if shutil.which("dot") is None:
        message = "needs the program dot of the Debian package graphviz"
        if os.environ.get("APERO_TESTS_REQUIRE_PACKAGES"):
            pytest.fail(message)
        pytest.skip(message)
    plan(headers, tmp_path / "p.jsonl", BASE + "id1 = calib_seq\n")
    assert tools(["graph", str(tmp_path / "p.jsonl"), "--out", str(tmp_path / "p.svg")]) == 0
    root = ET.parse(tmp_path / "p.svg").getroot()
    assert root.tag.endswith("svg")
    titles = {e.text for e in root.iter() if e.tag.endswith("title")}
    assert "plan" in titles and any("n0" in (t or "") for t in titles)


def test_graph_refuses_a_name_it_cannot_serve(
    headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(headers, tmp_path / "plan.jsonl", "id1 = pp_seq\n")
    picture = tmp_path / "plan.png"
    assert tools(["graph", str(tmp_path / "plan.jsonl"), "--out", str(picture)]) == 2
    assert "plan.png: a drawing is written as .dot, .gv, .svg" in capsys.readouterr().err
    assert not picture.exists()
    assert tools(["graph", str(tmp_path / "plan.jsonl"), "--out", str(picture), "--format", "dot"]) == 0
    assert picture.read_text(encoding="utf-8").startswith("digraph")


def test_graph_without_graphviz_says_what_to_do(
    headers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(headers, tmp_path / "p.jsonl", BASE + "id1 = calib_seq\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools(["graph", str(tmp_path / "p.jsonl"), "--format", "svg"]) == 2
    assert "graphviz" in capsys.readouterr().err
