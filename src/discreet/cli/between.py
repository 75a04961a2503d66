"""``discreet between``: organisations that do not trust one another with their data."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discreet.cli.inference import Certificate, Host, TlsKey, pinned
from discreet.cli.models import ModelFile, items_of, show_slate
from discreet.cli.output import Json, complain, note, progress, say, say_json, screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from uvicorn import Server

    from discreet.protocols.ensemble import Agreement
    from discreet.protocols.intersection import Found, IntersectionTerms
    from discreet.service.listening import Address

app = typer.Typer(no_args_is_help=True)

Identifiers = Annotated[Path, typer.Option("--ids", help="Identifiers, one a line, bytes as they are.")]
Purpose = Annotated[str, typer.Option("--purpose", help="What the intersection is for; the same text on both sides.")]
Name = Annotated[str, typer.Option("--name", help="Of this organisation, as the other has it.")]
PeerName = Annotated[str, typer.Option("--peer-name", help="Of the other organisation.")]
Size = Annotated[int, typer.Option("--size", min=1, help="Identifiers that this organisation has at most; announced.")]
PeerSize = Annotated[int, typer.Option("--peer-size", min=1, help="The same of the other.")]
CountOnly = Annotated[bool, typer.Option("--count-only", help="Tell how many are shared, not which.")]
Both = Annotated[bool, typer.Option("--both", help="The organisation that answers learns it, too.")]
Out = Annotated[Path | None, typer.Option("--out", help="File for the shared identifiers, one a line.")]
AgreementFile = Annotated[Path, typer.Option("--agreement", help="Made by `between agree`, the same for everybody.")]
Identity = Annotated[Path, typer.Option("--identity", help="This organisation's signing key, made by `between key`.")]
Patience = Annotated[float, typer.Option("--patience", min=0, help="Seconds to try for, if nobody answers there.")]
Port = Annotated[int, typer.Option("--port", min=1, max=65_535)]


@app.callback()
def _group() -> None:
    """Find what two organisations share, or join the lists of several, without showing the data or the models."""


@app.command()
def key(
    path: Annotated[Path, typer.Argument(help="File for the key; must not exist.")],
    exchange: Annotated[
        bool, typer.Option("--exchange", help="For a member of an ensemble; without it: for whoever asks, to sign.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a key; print its public half, which the others pin."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from discreet.governance.keyfiles import make_key

    public = make_key(path, X25519PrivateKey if exchange else Ed25519PrivateKey).hex()
    if as_json:
        say_json({"public": public})
    else:
        say(public)


@app.command()
def answer(
    ids: Identifiers,
    purpose: Purpose,
    name: Name,
    peer_name: PeerName,
    size: Size,
    peer_size: PeerSize,
    peer: Annotated[str, typer.Option("--peer", help="Signing key of the organisation that asks (hex), pinned.")],
    count_only: CountOnly = False,
    both: Both = False,
    out: Out = None,
    per_day: Annotated[int, typer.Option("--per-day", min=1, help="Sessions that it may open within 24 hours.")] = 10,
    lasting: Annotated[
        float, typer.Option("--lasting", min=1, help="Seconds after which a session that nobody ended is forgotten.")
    ] = 3600.0,
    once: Annotated[bool, typer.Option("--once", help="Stop after the first session that was ended.")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8446,
    certificate: Certificate = None,
    tls_key: TlsKey = None,
) -> None:
    """Answer another organisation's `intersect`, until stopped. Each session lets it test as many guesses as its size.

    With --both, the file holds what the last session told.
    """
    from discreet.client.enrolment import public_keys
    from discreet.errors import DiscreetError, SettingError
    from discreet.service.intersections import intersections
    from discreet.service.listening import Address

    if (out is not None) != (both and not count_only):
        raise SettingError("this organisation learns identifiers with --both and without --count-only: then give --out")
    _check_folder(out)
    terms = _terms(purpose, (peer_name, name), (peer_size, size), bytes(32), both, count_only)
    (pinned_key,) = public_keys([peer], "--peer")

    def learn(found: Found | None) -> None:
        try:
            _write(out, found)
        except DiscreetError as error:
            complain(error)  # the asker is told only that it failed
            raise
        _tell({"said": "over", "count": None if found is None else found.count})
        server.should_exit = server.should_exit or once

    address, ours = Address(host, port, certificate, tls_key), _read_identifiers(ids)
    server = address.serving(intersections(terms, ours, pinned_key, per_day=per_day, lasting=lasting, learn=learn))
    _serve(address, server, {})


@app.command()
def intersect(
    ids: Identifiers,
    purpose: Purpose,
    name: Name,
    peer_name: PeerName,
    size: Size,
    peer_size: PeerSize,
    url: Annotated[str, typer.Option("--url", help="Of the organisation that answers, such as https://host:8446.")],
    identity: Identity,
    count_only: CountOnly = False,
    both: Both = False,
    out: Out = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="PEM that the other's certificate is signed by, pinned.")
    ] = None,
    patience: Patience = 30.0,
    deadline: Annotated[float, typer.Option("--deadline", min=0, help="Seconds to wait for the answer.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Find the identifiers that another organisation has, too; they are printed, or written to a file.

    In JSON, bytes that are no UTF-8 are shown as \\xNN; a file has them as they are.
    """
    import secrets

    from discreet.client.wire import Wire
    from discreet.errors import SettingError
    from discreet.governance.keyfiles import signing_key
    from discreet.protocols.intersection import CHUNK
    from discreet.service.intersections import intersect as ask_for

    if out is not None and count_only:
        raise SettingError("with --count-only there are no identifiers to write; leave --out away")
    _check_folder(out)
    terms = _terms(purpose, (name, peer_name), (size, peer_size), secrets.token_bytes(32), both, count_only)
    ours = _read_identifiers(ids)
    wire = Wire(url, signing_key(identity), ca=ca, patience=patience)
    with progress() as bars:
        bar = bars.add_task("multiplying", total=math.ceil(len(ours) / CHUNK) + math.ceil(peer_size / CHUNK))

        def counted(
            function: Callable[[Sequence[bytes]], list[bytes]], chunks: Iterable[Sequence[bytes]]
        ) -> Iterator[list[bytes]]:
            for made in map(function, chunks):
                bars.advance(bar)
                yield made

        found = ask_for(terms, ours, wire, apply=counted, longest=deadline)
    _write(out, found)
    _show(found, out, as_json)


@app.command()
def agree(
    file: ModelFile,
    keys: Annotated[
        list[str], typer.Option("--key", help="Public key of a member (`between key --exchange`), in order of seats.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File for the agreement, which is public.")],
    weights: Annotated[
        list[int] | None, typer.Option("--weight", min=1, help="Of each member, in order; without it: 1 each.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write down what the members of an ensemble agree on: the catalogue of a model, their keys, their weights."""
    from discreet.client.enrolment import public_keys
    from discreet.files import write_bytes
    from discreet.inference.ensemble import agreement
    from discreet.models.trained import Trained

    members = public_keys(keys, "--key")
    terms = agreement(Trained.load(file).catalogue, members, weights or [1] * len(members))
    write_bytes(out, terms.to_bytes())
    if as_json:
        say_json({"agreement": terms.digest.hex(), "members": len(members), "weights": [*terms.weights]})
    else:
        say(f"{out}: {len(members)} members, {terms.dims} items, SHA-256 {terms.digest.hex()}")


@app.command()
def member(
    file: ModelFile,
    agreement: AgreementFile,
    exchange: Annotated[Path, typer.Option("--exchange-key", help="This member's, made by `between key --exchange`.")],
    peers: Annotated[
        list[str], typer.Option("--peer", help="Signing key of who may ask (hex), pinned; may be repeated.")
    ],
    per_day: Annotated[int, typer.Option("--per-day", min=1, help="Lists that each may ask for in 24 hours.")] = 100,
    host: Host = "127.0.0.1",
    port: Port = 8447,
    certificate: Certificate = None,
    tls_key: TlsKey = None,
) -> None:
    """Be a member of an ensemble, until stopped. Each list tells the asker something of all models."""
    from discreet.client.enrolment import public_keys
    from discreet.governance.keyfiles import exchange_key
    from discreet.inference.ensemble import Member
    from discreet.models.trained import Trained
    from discreet.service.ensembles import ensembles
    from discreet.service.listening import Address

    terms, allowed = _read_agreement(agreement), public_keys(peers, "--peer")
    address = Address(host, port, certificate, tls_key)
    one = Member(Trained.load(file), terms, exchange_key(exchange))
    said = {"seat": one.seat, "weights": [*terms.weights], "agreement": terms.digest.hex()}
    _serve(address, address.serving(ensembles(one, allowed, per_day=per_day)), said)


@app.command()
def ask(
    agreement: AgreementFile,
    urls: Annotated[
        list[str], typer.Option("--url", help="Of a member, such as https://host:8447; in order of seats.")
    ],
    identity: Identity,
    history: Annotated[
        str, typer.Option("--history", help="Item ids, separated by commas or lines; - reads standard input.")
    ] = "",
    n: Annotated[int, typer.Option("--n", help="Length of the list.")] = 10,
    ca: Annotated[
        list[Path] | None, typer.Option("--ca", help="PEM that a member's certificate is signed by, pinned; in turn.")
    ] = None,
    patience: Patience = 30.0,
    as_json: Json = False,
) -> None:
    """Ask all members of an ensemble for one list. Each of them is sent the history."""
    from discreet.client.wire import Wire
    from discreet.governance.keyfiles import signing_key
    from discreet.service.ensembles import Ensemble

    signing, terms = signing_key(identity), _read_agreement(agreement)
    wires = [Wire(url, signing, seat, pinned(ca, seat), patience) for seat, url in enumerate(urls)]
    ensemble, items = Ensemble(terms, wires, n), items_of(history)
    request, kept = ensemble.ask(items)
    made = ensemble.read(ensemble.answer(request), kept)
    if as_json:
        say_json({"items": made.to_dicts(), "unknown": made.unknown})
    else:
        show_slate(made, f"For a history of {len(items)}, by {len(wires)} organisations")


def _serve(address: Address, server: Server, said: dict[str, object]) -> None:
    import asyncio

    with closing(address.bound()) as listening:
        _tell({"said": "listening", "port": address.port} | said)
        asyncio.run(server.serve(sockets=[listening]))


def _tell(what: dict[str, object]) -> None:
    say(json.dumps(what))
    screen.file.flush()


def _terms(
    purpose: str, names: tuple[str, str], sizes: tuple[int, int], session: bytes, both: bool, count_only: bool
) -> IntersectionTerms:
    """Return terms; names and sizes are of the asker, and of the answerer."""
    import hashlib

    from discreet.errors import ProtocolError, SettingError
    from discreet.protocols.intersection import IntersectionTerms

    asker, answerer = (each.encode() for each in names)
    about = hashlib.sha256(purpose.encode()).digest()
    try:
        return IntersectionTerms(session, about, asker, answerer, *sizes, int(both), int(count_only))
    except ProtocolError as error:
        raise SettingError(str(error)) from None


def _read_identifiers(path: Path) -> list[bytes]:
    from discreet.errors import DataError

    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__})") from None
    return [line for line in (each.removesuffix(b"\r") for each in lines) if line]


def _read_agreement(path: Path) -> Agreement:
    from discreet.errors import DataError, ProtocolError
    from discreet.protocols.ensemble import Agreement

    try:
        return Agreement.from_bytes(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__})") from None
    except ProtocolError as error:
        raise DataError(f"{path}: is no agreement ({error})") from None


def _check_folder(out: Path | None) -> None:
    from discreet.errors import SettingError

    if out is not None and not out.parent.is_dir():  # before anything is asked
        raise SettingError(f"{out.parent} is not a folder; make it, or write elsewhere")


def _write(out: Path | None, found: Found | None) -> None:
    from discreet.files import write_bytes

    if out is not None and found is not None and found.identifiers is not None:
        write_bytes(out, b"".join(each + b"\n" for each in found.identifiers))


def _show(found: Found, out: Path | None, as_json: bool) -> None:
    shared = None
    if found.identifiers is not None and out is None:
        shared = [each.decode(errors="backslashreplace") for each in found.identifiers]
    if as_json:
        say_json({"count": found.count, "identifiers": shared})
        return
    note(f"{found.count} identifiers are shared" + ("" if out is None else f": {out}"))
    for each in shared or []:
        say(each)
