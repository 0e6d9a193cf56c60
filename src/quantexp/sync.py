"""`python -m quantexp.sync`: send to the tracking server what was kept while it did not answer."""

from quantexp.config import SyncConfig
from quantexp.config.command_line import hydra_command
from quantexp.util.errors import UserError


@hydra_command("quantexp.sync", SyncConfig)
def main(config: SyncConfig) -> None:
    """Entry point."""
    if config.tracking.uri is None:
        raise UserError("tracking=local has no server to send runs to: set tracking=server.")
    from rich.console import Console
    from rich.text import Text

    from quantexp.tracking.store import Store

    store = Store(config.tracking)
    store.check()
    done = store.send(patient=True)
    console = Console()
    for name in done.sent:
        console.print(Text(f"sent {name}"), soft_wrap=True)
    lines = [f"{len(done.sent)} runs sent to {store.shown}; {len(done.waiting)} are left"]
    lines += [f"{count} are meant for {uri}: add tracking.uri={uri}" for uri, count in done.elsewhere.items()]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    problems = list(done.damaged)
    if done.waiting:
        problems.append(f"{', '.join(done.waiting)}: the tracking server {store.shown} {done.reason}; try again later.")
    if problems:
        raise UserError(" ".join(problems))


if __name__ == "__main__":
    main()
