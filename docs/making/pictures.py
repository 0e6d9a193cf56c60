"""The pictures in README and documentation, taken anew: `make pictures`.

Runs the demo with more items in build/pictures, unless it is there, opens its report and MLflow's pages in Chromium,
and writes what a person sees to docs/*.png.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from math import ceil
from pathlib import Path
from urllib.error import URLError

import mlflow
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]

FOLDER = ROOT / "build" / "pictures"

SWEEP = ("experiment=demo", "task.limit=40", "tracking.traces=true")

OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

COLUMNS = 110
"""Width of the terminal."""


def main() -> None:
    """Take every picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    assert chromium is not None, "make browser installs Chromium"
    subprocess.run([sys.executable, "-m", "quantexp", *SWEEP], cwd=FOLDER, check=True)
    said = subprocess.run(
        [sys.executable, "-m", "quantexp.aggregate"],
        cwd=FOLDER, check=True, capture_output=True, text=True,
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)},
    ).stdout  # fmt: skip
    report = max((FOLDER / "multirun").rglob("report.html"), key=lambda path: path.stat().st_mtime)
    shutil.copy(report.with_name("score_vs_bits.png"), ROOT / "docs" / "demo.png")
    with sync_playwright() as playwright, _mlflow_ui() as server:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(OPTIONS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)  # of a busy machine
        _picture_terminal(page, said)
        page.goto(report.as_uri())
        page.screenshot(path=ROOT / "docs" / "report.png")
        _picture_mlflow(page, server)
        browser.close()


def _picture_terminal(page: Page, said: str) -> None:
    console = Console(record=True, width=COLUMNS, file=StringIO())
    # The address and the paths of this machine say nothing to others.
    lines = [line for line in said.splitlines() if not line.startswith(("report", "browse", "        http"))]
    console.print(Text.from_ansi("\n".join(lines)))
    drawing = FOLDER / "terminal.svg"
    console.save_svg(str(drawing), title="python -m quantexp.aggregate")
    # The drawing fills whatever it is shown in: a window of its own size leaves no margins.
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing.read_text(encoding="utf-8"))
    assert size is not None
    before = page.viewport_size
    page.set_viewport_size({"width": ceil(float(size[1])), "height": ceil(float(size[2]))})
    page.goto(drawing.as_uri())
    page.screenshot(path=ROOT / "docs" / "terminal.png")
    assert before is not None
    page.set_viewport_size(before)


def _picture_mlflow(page: Page, server: str) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{FOLDER / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quantexp")
    assert experiment is not None
    [sweep, *_] = client.search_runs([experiment.experiment_id], "tags.`quantexp.kind` = 'sweep'")
    at = f"{server}/#/experiments/{experiment.experiment_id}"
    view = f"viewStateShareKey={sweep.info.run_id}&workflowType=machine_learning"
    _open(page, f"{at}/runs?{view}", "Q4_K_M seed 0")
    page.screenshot(path=ROOT / "docs" / "mlflow-runs.png")
    _open(page, f"{at}/runs/{sweep.info.run_id}/model-metrics", "gsm8k")
    page.screenshot(path=ROOT / "docs" / "mlflow-charts.png")
    job = client.search_runs(
        [experiment.experiment_id],
        f"tags.sweep LIKE '%{sweep.info.run_id}%' and tags.task = 'gsm8k' and tags.quant = 'Q4_K_M'",
    )[0]
    _open(page, f"{at}/runs/{job.info.run_id}/artifacts/items.json", "item_id")
    # The folder of this machine says nothing to others.
    page.get_by_text("Path: file:").first.evaluate(
        "node => { node.textContent = 'Path: mlruns/artifacts/…/items.json' }"
    )
    page.screenshot(path=ROOT / "docs" / "mlflow-items.png")
    _open(page, f"{at}/runs/{job.info.run_id}/traces", "tr-")
    page.get_by_role("link").or_(page.locator("tbody tr td a")).last.wait_for()
    page.screenshot(path=ROOT / "docs" / "mlflow-trace.png")


def _open(page: Page, address: str, shows: str) -> None:
    """Open a page of MLflow and wait until it shows a text, without the pane of its assistant."""
    page.goto(address)
    page.get_by_text(shows).first.wait_for()
    close = page.get_by_role("button", name="Close")
    if close.count():
        close.last.click()
    page.wait_for_timeout(3000)


@contextmanager
def _mlflow_ui() -> Iterator[str]:
    """Yield the address of MLflow's pages on the store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", "sqlite:///mlruns/mlflow.db"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen([*command, "--workers", "1", "--port", str(port)], cwd=FOLDER, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except URLError:
                assert server.poll() is None, "mlflow ui has ended"
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
