"""`python -m quantexp.store`: what the completion store holds; with `compact=true`, make it smaller."""

from pathlib import Path

from quantexp.config import MaintenanceConfig
from quantexp.config.command_line import hydra_command
from quantexp.util.errors import UserError
from quantexp.util.terminal import say


@hydra_command("quantexp.store", MaintenanceConfig)
def main(config: MaintenanceConfig) -> None:
    """Entry point."""
    from rich.console import Console
    from rich.table import Table

    from quantexp.store import compact, report

    folder = Path(config.store.folder).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(
            f"There is no completion store in {folder}; run a job first, or name another with store.folder=FOLDER."
        )
    console = Console()
    if config.compact:
        done = compact(folder)
        say(
            console,
            f"Compacted {done.segments} segments: {done.duplicates} duplicates and {done.damaged} damaged records "
            f"removed, {_size(done.freed)} freed"
            + (f"; {done.live} are being written to and stay" if done.live else ""),
        )
    found = report(folder)
    table = Table("model", "quant", "completions", "size")
    for column in table.columns[2:]:
        column.justify = "right"
    for share in found.by:
        table.add_row(share.model, share.quant, f"{share.records:,}", _size(share.bytes))
    console.print(table)
    say(
        console,
        f"{found.distinct:,} completions in {found.segments} segments, {_size(found.bytes)}; "
        f"{found.duplicates} duplicates, {found.damaged} damaged",
    )
    if found.reclaimable and not config.compact:
        say(console, f"compact=true would free {_size(found.reclaimable)}")
    say(console, str(folder))


def _size(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


if __name__ == "__main__":
    main()
