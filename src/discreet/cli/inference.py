"""``discreet inference``: lists whose makers do not see a history, by servers that are processes."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.data import DEFAULT_LEDGER, LEDGER
from discreet.cli.inference_demo import demo
from discreet.cli.models import ModelFile, items_of, show_slate
from discreet.cli.output import Json, say, say_json, screen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from discreet.data.interactions import Interactions
    from discreet.inference.noisy import Noisy
    from discreet.models.sheet import Sheet
    from discreet.models.trained import Trained
    from discreet.service.lists import Given, Seat

app = typer.Typer(no_args_is_help=True)
app.command()(demo)

Host = Annotated[str, typer.Option("--host", help="To listen on; another than this machine's needs TLS.")]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="PEM, with its chain.")]
TlsKey = Annotated[Path | None, typer.Option("--key", help="Of the certificate, PEM.")]

Daily = Annotated[
    int | None,
    typer.Option(
        "--daily",
        min=1,
        help="Questions, pages aside, that one address (IPv6: a /64) may ask within 24 hours; below the model's width "
        "where it is to stay secret. None: any number, as many people can have one address, and a released model's "
        "promise holds however often it is asked.",
    ),
]


@app.callback()
def _group() -> None:
    """Make lists without seeing histories: on the device, by two servers, or encrypted."""


@app.command()
def serve(
    file: ModelFile,
    ways: Annotated[
        list[str] | None,
        typer.Option(
            "--way", help="on_device, shared, retrieved, encrypted garbled or noisy; may be repeated. None: on_device."
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
    second: Annotated[
        str | None, typer.Option("--second", help="`garbled`: this is the first server; key of the second, pinned.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--first", help="`garbled`: this is the second server; address of the first.")
    ] = None,
    first_ca: Annotated[Path | None, typer.Option("--first-ca", help="What its certificate is signed by.")] = None,
    identity: Annotated[Path | None, typer.Option("--identity", help="Key that the second signs with.")] = None,
    live: Annotated[
        Path | None, typer.Option("--live", help="`noisy`: data set that lists of what is chosen now are made of.")
    ] = None,
    ledger: Annotated[
        str, typer.Option("--ledger", envvar=LEDGER, help="`noisy`: where its releases are billed.")
    ] = DEFAULT_LEDGER,
    epsilon: Annotated[float, typer.Option("--epsilon", help="`noisy`: of each release, in nats.")] = 0.1,
    favourites: Annotated[
        int, typer.Option("--favourites", min=0, help="`noisy`: lists so long, whole people protected; 0: counts.")
    ] = 0,
    cohorts: Annotated[
        Path | None, typer.Option("--cohorts", help="`noisy`: who is in which cohort, for favourites of each.")
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--cohort", help="A cohort that there is; may be repeated.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="`noisy`: where its releases are kept.")] = Path("live"),
    n: Annotated[int, typer.Option("--n", help="Length of garbled lists; the same on both servers.")] = 10,
    candidates: Annotated[int, typer.Option("--candidates", help="Items that they are found among; likewise.")] = 4_000,
    daily: Daily = None,
) -> None:
    """Answer devices, until stopped.

    `shared`, `retrieved` and `garbled` need two servers, of two who do not tell each other.
    """
    import asyncio
    from contextlib import closing

    from discreet.models.trained import Trained
    from discreet.service.listening import Address
    from discreet.service.lists import Offer, lists

    address = Address(host, port, certificate, key)
    trained = Trained.load(file)
    with ExitStack() as stack, closing(address.bound()) as listening:
        offered = tuple(ways or ["on_device"])
        given = replace(
            _given(trained, offered, previous or [], pages, workers, stack),
            seat=_seat(second, first, first_ca, identity, n, candidates),
            live=None if live is None else _live(live, ledger, folder, _released(epsilon, favourites, cohorts, names)),
        )
        offer = Offer.of(offered, given)
        say(json.dumps({"said": "listening", "ways": offer.ways, "port": port}))
        screen.file.flush()
        asyncio.run(address.serving(lists(offer, daily)).serve(sockets=[listening]))


@app.command()
def deal(
    file: ModelFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for the outline and the three shares; must not exist.")],
    n: Annotated[int, typer.Option("--n", min=1, max=100, help="Length of the longest list.")] = 20,
) -> None:
    """Share a model out to three servers (`mpc`): each share is noise; any two of them are the model."""
    from discreet.errors import SettingError
    from discreet.files import write_bytes, writing
    from discreet.inference.mpc import Owner
    from discreet.models.trained import Trained

    if out.exists():
        raise SettingError(f"{out} exists already; name another folder")
    owner = Owner(Trained.load(file), n)
    with writing(out):
        out.mkdir(parents=True, mode=0o700)
    write_bytes(out / "outline.npz", owner.outline.to_bytes())
    for seat, share in enumerate(owner.shares):
        write_bytes(out / f"seat-{seat}.share", share)
    say(f"{out}: outline.npz for all, and a share for each server; give each its own alone, then delete them here")


@app.command()
def party(
    share: Annotated[Path, typer.Argument(help="This server's share, of `inference deal`.")],
    outline: Annotated[Path, typer.Option("--outline", help="Of `inference deal`: what devices have to know.")],
    parties: Annotated[
        list[str], typer.Option("--party", help="127.0.0.1:PORT where each server is reached from here; by seat.")
    ],
    link: Annotated[str, typer.Option("--link", help="What all three call their link; another after each loss.")],
    python: Annotated[
        Path | None, typer.Option("--python", help="Of SPU's environment; else: DISCREET_SPU_PYTHON.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535)] = 8446,
    certificate: Certificate = None,
    key: TlsKey = None,
    daily: Daily = None,
) -> None:
    """Answer devices as one of three servers that compute on shares (`mpc`), until stopped."""
    import asyncio
    from contextlib import closing

    from discreet.data.tables import readable
    from discreet.engines.spu import Party, Place, found
    from discreet.errors import SettingError
    from discreet.inference.outline import Outline
    from discreet.protocols.ranking import Held, Ranker
    from discreet.service.listening import Address
    from discreet.service.lists import lists, ranked

    if len(parties) != 3:
        raise SettingError(f"three servers compute together; {len(parties)} are named")
    with readable(str(share)):
        held = Held(share.read_bytes())
    with readable(str(outline)):
        told = Outline.from_bytes(outline.read_bytes())
    address, place = Address(host, port, certificate, key), Place((parties[0], parties[1], parties[2]), link)
    with closing(address.bound()) as listening, closing(Party(found(python), held, place)) as one:
        one.ready()
        say(json.dumps({"said": "listening", "ways": ["mpc"], "port": port}))
        screen.file.flush()
        app = lists(ranked(told, Ranker(held, one.compute)), daily)
        asyncio.run(address.serving(app).serve(sockets=[listening]))


@app.command()
def key(path: Annotated[Path, typer.Argument(help="File for the key; must not exist.")], as_json: Json = False) -> None:
    """Make the key that the second of two servers signs with; print its public half."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from discreet.governance.keyfiles import make_key

    public = make_key(path, Ed25519PrivateKey).hex()
    if as_json:
        say_json({"public": public})
    else:
        say(public)


@app.command()
def ask(
    way: Annotated[
        str, typer.Option("--way", help="on_device, shared, retrieved, hinted, encrypted, garbled, noisy or mpc.")
    ],
    servers: Annotated[
        list[str], typer.Option("--server", help="Address, such as https://host:8445; two of two servers.")
    ],
    history: Annotated[
        str, typer.Option("--history", help="Item ids, separated by commas or lines; - reads standard input.")
    ] = "",
    n: Annotated[
        int, typer.Option("--n", min=1, help="Length of the list; of pages: how many are asked for at once.")
    ] = 10,
    cohort: Annotated[
        str | None, typer.Option("--cohort", help="`noisy`: that you are of; it stays here, too.")
    ] = None,
    ca: Annotated[
        list[Path] | None, typer.Option("--ca", help="PEM that a server's certificate is signed by, pinned; in turn.")
    ] = None,
    patience: Annotated[float, typer.Option("--patience", min=0, help="Seconds to try for.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Ask as a device would: the history stays here. With `retrieved`, `hinted`: the items whose pages are fetched."""
    from discreet.client.wire import Wire
    from discreet.errors import SettingError
    from discreet.service.afar import reached

    wires = [Wire(url, ca=pinned(ca, seat), patience=patience) for seat, url in enumerate(servers)]
    recommender, items = reached(way, wires, n), items_of(history)
    if cohort is not None:
        if way != "noisy":
            raise SettingError("cohorts have lists of live data alone: --way noisy")
        recommender.device.cohort = cohort
    request, kept = recommender.ask(items)
    made: Any = recommender.read(recommender.answer(request), kept)
    if way in {"retrieved", "hinted"}:
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


def _given(
    trained: Trained, ways: Sequence[str], previous: Sequence[Path], pages: Path | None, workers: int, stack: ExitStack
) -> Given:
    from discreet.models.trained import Trained
    from discreet.service.lists import Given

    scheme = None
    if "encrypted" in ways:
        from discreet.engines.seal import Seal, Workers

        scheme = Seal(stack.enter_context(Workers(workers)))
    texts = _pages(trained, pages) if {"retrieved", "hinted"} & {*ways} else []
    return Given(trained, [Trained.load(path) for path in previous], texts, scheme)


def _released(
    epsilon: float, favourites: int, cohorts: Path | None, names: list[str] | None
) -> Callable[[Interactions, dict[str, Any]], Sheet]:
    """Return what releases a data set, of where it is billed and published: counts, or favourites."""
    from discreet.cli.data import cohorts_of
    from discreet.errors import SettingError
    from discreet.evaluation import favourites as whole
    from discreet.evaluation import trending

    of = cohorts_of(cohorts, names or [])
    if of and not favourites:
        raise SettingError("cohorts have favourites; say how many, with --favourites")
    if favourites:
        return lambda data, where: whole.sheet_of(
            whole.release_favourites(data, epsilon=epsilon, n=favourites, cohorts=of, **where)
        )
    return lambda data, where: trending.sheet_of(trending.release_trending(data, epsilon=epsilon, **where))


def _live(data: Path, ledger: str, folder: Path, released: Callable[[Interactions, dict[str, Any]], Sheet]) -> Noisy:
    """Return lists of a data set as its file stands: another content is another release."""
    from hashlib import file_digest

    from discreet.data.intake import read_interactions
    from discreet.data.tables import readable
    from discreet.files import writing
    from discreet.inference.noisy import Noisy

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)

    seen: dict[tuple[int, int], str] = {}

    def epoch() -> str:
        with readable(str(data)):
            about = data.stat()
            stands = about.st_mtime_ns, about.st_size
            if stands not in seen:  # read once for each state: whoever asks must not make this read
                seen.clear()
                with data.open("rb") as file:
                    seen[stands] = file_digest(file, "sha256").hexdigest()[:32]
            return seen[stands]

    def release(of: str) -> Sheet:
        where = {"ledger": ledger, "release": f"live-{of}", "out": folder / f"{of}.json"}
        return released(read_interactions(data), where)

    noisy = Noisy(release, epoch)
    noisy.current()  # what stands against a release is said at the start, not to the first who asks
    return noisy


def _seat(
    second: str | None, first: str | None, ca: Path | None, identity: Path | None, n: int, candidates: int
) -> Seat:
    from discreet.client.enrolment import public_keys
    from discreet.client.wire import Wire
    from discreet.governance.keyfiles import signing_key
    from discreet.service.lists import Seat

    peer = None if second is None else public_keys([second], "--second")[0]
    wire = None if first is None or identity is None else Wire(first, signing_key(identity), ca=ca, patience=5.0)
    return Seat(n, candidates, peer, wire)


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
    found = {str(item): str(page) for item, page in table.columns(wanted).rows() if page is not None}
    return [found.get(str(item), "").encode() for item in catalogue.ids]


def pinned(ca: list[Path] | None, seat: int) -> Path | None:
    """Return what the certificate of a seat is signed by: the last one that is given counts for all after it."""
    return None if not ca else ca[min(seat, len(ca) - 1)]
