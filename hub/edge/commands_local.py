"""Commands that stand in for others on this machine: sandbox, kafka."""

from pathlib import Path
from typing import Annotated

import typer

from hub.edge.cli import Exit, app, go
from hub.edge.output import out


@app.command()
def sandbox(
    name: Annotated[str, typer.Argument(help="hubspot or mailchimp.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 picks one.")] = 0,
    seed: Annotated[
        Path | None, typer.Option(help="A JSON document to begin with (as POST /_sandbox/seed takes it).")
    ] = None,
) -> None:
    """Run a stand-in of a vendor's API on this machine, until interrupted."""
    from hub.edge.sandboxes import serve

    go(serve(name, port, seed))


kafka = typer.Typer(help="A local Kafka broker without Docker, for development and tests.", no_args_is_help=True)
app.add_typer(kafka, name="kafka")
KAFKA_DIR = Path(".hub/kafka")
KafkaDir = Annotated[Path, typer.Option(help="Where the broker keeps its data.")]


@kafka.command()
def up(
    data_dir: KafkaDir = KAFKA_DIR, port: Annotated[int, typer.Option(help="Client port on 127.0.0.1.")] = 9092
) -> None:
    """Start a broker (fetching its jars the first time) and print its address."""
    from hub.edge import kafka_local

    out.print(kafka_local.up(data_dir, port=port).url)


@kafka.command()
def down(data_dir: KafkaDir = KAFKA_DIR) -> None:
    """Stop the broker; its data stays."""
    from hub.edge import kafka_local

    kafka_local.down(data_dir)


@kafka.command("status")
def kafka_status(data_dir: KafkaDir = KAFKA_DIR) -> None:
    """Say whether the broker runs, and where. Exit 1 when it does not."""
    from hub.edge import kafka_local

    broker = kafka_local.status(data_dir)
    out.print(broker.url if broker else "not running")
    raise Exit(0 if broker else 1)
