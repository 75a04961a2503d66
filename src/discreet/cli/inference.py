"""``discreet inference``: lists whose makers do not see a history, by servers that are processes."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.inference_demo import demo
from discreet.cli.models import ModelFile, items_of, show_slate
from discreet.cli.output import Json, say, say_json, screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discreet.models.trained import Trained
    from discreet.service.lists import Offer

app = typer.Typer(no_args_is_help=True)
app.command()(demo)

Host = Annotated[str, typer.Option("--host", help="To listen on; another than this machine's needs TLS.")]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="PEM, with its chain.")]
TlsKey = Annotated[Path | None, typer.Option("--key", help="Of the certificate, PEM.")]


@app.callback()
def _group() -> None:
    """Make lists without seeing histories: on the device, by two servers, or encrypted."""


@app.command()
def serve(
    file: ModelFile,
    ways: Annotated[
        list[str] | None,
        typer.Option(
            "--way", help="on_device, shared, retrieved or encrypted; may be repeated. Without it: on_device."
        ),
    ] = None,
    previous: Annotated[
        list[Path] | None,
        typer.Option("--previous", help="Model that devices may still hold: what changed is sent; may be repeated."),
    ] = None,
    pages: Annotated[
        Path | None, typer.Option("--pages", help="CSV or Parquet of item_id and page, for `retrieved`; else: titles.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that compute on ciphertexts.")] = 2,
    host: Annotated[
        str, typer.Option("--host", help="To listen on; another than this machine's needs TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535)] = 8445,
    certificate: Certificate = None,
    key: TlsKey = None,
) -> None:
    """Answer devices, until stopped. `shared` and `retrieved` need two servers, of two who do not tell each other."""
    import asyncio
    from contextlib import closing

    from discreet.models.trained import Trained
    from discreet.service.listening import Address
    from discreet.service.lists import lists

    address = Address(host, port, certificate, key)
    trained = Trained.load(file)
    with ExitStack() as stack, closing(address.bound()) as listening:
        before = [Trained.load(path) for path in previous or []]
        offer = _offered(trained, tuple(ways or ["on_device"]), before, pages, workers, stack)
        say(json.dumps({"said": "listening", "ways": offer.ways, "port": port}))
        screen.file.flush()
        asyncio.run(address.serving(lists(offer)).serve(sockets=[listening]))


@app.command()
def ask(
    way: Annotated[str, typer.Option("--way", help="on_device, shared, retrieved or encrypted.")],
    servers: Annotated[
        list[str], typer.Option("--server", help="Address, such as https://host:8445; two of two servers.")
    ],
    history: Annotated[
        str, typer.Option("--history", help="Item ids, separated by commas or lines; - reads standard input.")
    ] = "",
    n: Annotated[int, typer.Option("--n", help="Length of the list; of `retrieved`: pages asked for at once.")] = 10,
    ca: Annotated[
        list[Path] | None, typer.Option("--ca", help="PEM that a server's certificate is signed by, pinned; in turn.")
    ] = None,
    patience: Annotated[float, typer.Option("--patience", min=0, help="Seconds to try for.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Ask as a device would: the history stays here. With `retrieved`, it is the items whose pages are fetched."""
    from discreet.client.wire import Wire
    from discreet.service.afar import reached

    wires = [Wire(url, ca=pinned(ca, seat), patience=patience) for seat, url in enumerate(servers)]
    recommender, items = reached(way, wires, n), items_of(history)
    request, kept = recommender.ask(items)
    made: Any = recommender.read(recommender.answer(request), kept)
    if way == "retrieved":
        texts = [page.decode(errors="replace") for page in made]
        if as_json:
            say_json({"pages": texts})
        else:
            for text in texts:
                say(text)
        return
    if as_json:
        say_json({"items": made.to_dicts(), "unknown": made.unknown})
    else:
        show_slate(made, f"For a history of {len(items)}, which stayed here")


def _offered(
    trained: Trained,
    ways: tuple[str, ...],
    previous: Sequence[Trained],
    pages: Path | None,
    workers: int,
    stack: ExitStack,
) -> Offer:
    from discreet.service.lists import Offer

    scheme = None
    if "encrypted" in ways:
        from discreet.engines.seal import Seal, Workers

        scheme = Seal(stack.enter_context(Workers(workers)))
    texts = _pages(trained, pages) if "retrieved" in ways else []
    return Offer.of(trained, ways, previous=previous, pages=texts, scheme=scheme)


def _pages(trained: Trained, path: Path | None) -> list[bytes]:
    """Return a page for each item of the catalogue; an item without one has an empty one."""
    from discreet.data.tables import table_of
    from discreet.errors import DataError

    catalogue = trained.catalogue
    if path is None:
        return [title.encode() for title in catalogue.titles or map(str, catalogue.ids)]
    table, wanted = table_of(path), ["item_id", "page"]
    if not set(wanted) <= set(table.names):
        raise DataError(f"{path}: pages need the columns item_id and page; {table.listing(wanted)}")
    found = {str(item): str(page) for item, page in table.columns(wanted).rows()}
    return [found.get(str(item), "").encode() for item in catalogue.ids]


def pinned(ca: list[Path] | None, seat: int) -> Path | None:
    """Return what the certificate of a seat is signed by: the last one that is given counts for all after it."""
    return None if not ca else ca[min(seat, len(ca) - 1)]
