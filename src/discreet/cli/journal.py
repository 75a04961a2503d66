"""``discreet journal``: whether the record holds, how far it has grown, and proofs of it for others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discreet.cli.data import DEFAULT_LEDGER, LedgerPlace
from discreet.cli.output import Json, note, say, say_json, screen
from discreet.cli.serving import MASTER, Hook, hooked

if TYPE_CHECKING:
    from discreet.governance.heads import SignedHead
    from discreet.governance.journal import Entry, Head, Journal
    from discreet.governance.keys import Wrapping

app = typer.Typer(no_args_is_help=True)

LARGEST = 1 << 26
"""Bytes of a proof, or of a head, that are read."""


@app.command()
def verify(
    ledger: LedgerPlace = DEFAULT_LEDGER,
    head: Annotated[
        str | None, typer.Option("--head", help="SEQ:HASH that was kept elsewhere; notices a restored old copy.")
    ] = None,
    artefacts: Annotated[Path | None, typer.Option("--artefacts", help="Folder of the published models.")] = None,
    master_key: Annotated[
        Path | None,
        typer.Option("--master-key", help="Of a service: opens what people agreed to; else master.key beside a file."),
    ] = None,
    key_service: Hook = None,
    as_json: Json = False,
) -> None:
    """Replay the journal; compare it with the tables and the witness; name the first row that does not fit.

    Where people are held, each one's consents are opened; without the master key they are counted. Exit code 3 if
    anything does not fit.
    """
    from discreet.governance.verification import verify
    from discreet.governance.witness import configured

    witness, kept_head, wrapping = configured(None), _head(head), _wrapping(ledger, master_key, key_service)
    with _opened(ledger) as journal:
        found = verify(journal, kept_head, artefacts, witness, wrapping)
    kept = f"{found.head.seq}:{found.head.hash}"
    if as_json:
        problems = [{"row": problem.row, "what": problem.what} for problem in found.problems]
        seen = None if witness is None else str(witness.path)
        told = {"ok": found.ok, "rows": found.rows, "head": kept, "witness": seen, "consents": found.consents}
        say_json(told | {"problems": problems})
    elif found.ok:
        beside = "no witness was named" if witness is None else f"so does every head in {witness.path}"
        say(f"{found.rows:,} journal rows replayed: everything fits; {beside}. Keep this head elsewhere: {kept}")
    if found.consents == "counted" and not as_json:
        note("Consents were counted, not compared one by one: that takes the master key, --master-key FILE.")
    if not found.ok and as_json:
        raise typer.Exit(3)
    found.require()


@app.command()
def head(
    ledger: LedgerPlace = DEFAULT_LEDGER,
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin another witness where the one before is lost. This is on record.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Sign how far the journal has grown, and put it into the witness (`discreet --witness FILE journal head`)."""
    with _opened(ledger) as journal:
        signed = _kept(journal, anew=anew)
    if as_json:
        say_json(asdict(signed))
    else:
        say(f"{signed.size:,} rows, as of {signed.at}\nroot: {signed.root}\nkey:  {signed.key}")


@app.command()
def prove(
    row: Annotated[int | None, typer.Argument(help="Number of the row to prove, from 0.", min=0)] = None,
    out: Annotated[Path, typer.Option("--out", help="File for the proof.")] = Path("proof.json"),
    since: Annotated[
        Path | None,
        typer.Option("--since", help="A head, of `journal head --json`: prove that all of it stands."),
    ] = None,
    ledger: LedgerPlace = DEFAULT_LEDGER,
    as_json: Json = False,
) -> None:
    """Write a proof that a row is in the journal, or that all of an older head still is, for anybody to check.

    The proof of a row holds that row's text, and nothing of others.
    """
    from discreet.errors import SettingError
    from discreet.files import write_bytes
    from discreet.governance.heads import Consistency, Inclusion, Proof, SignedHead, proof_to_bytes

    if (row is None) == (since is None):
        raise SettingError("prove a row, by its number, or all since a head, by --since: one of the two")
    old = None if since is None else SignedHead.from_bytes(_content(since))
    with _opened(ledger) as journal:
        signed = _kept(journal)
        proof: Proof = Inclusion.of(journal, row or 0, signed) if old is None else Consistency.of(journal, old, signed)
    write_bytes(out, proof_to_bytes(proof))
    if as_json:
        say_json({"proof": proof.KIND, "out": str(out), "size": signed.size, "key": signed.key})
    else:
        say(f"{proof.told()}\nproof: {out}; it is checked with `discreet journal check {out} --key {signed.key}`")


@app.command()
def check(
    proof: Annotated[Path, typer.Argument(help="The file that `journal prove` wrote.")],
    key: Annotated[str, typer.Option("--key", help="The public key, hex, that you got on another way than the proof.")],
    as_json: Json = False,
) -> None:
    """Check a proof: needs no database and no network. Exit code 3 if it does not hold."""
    from discreet.governance.checks import check_sha256
    from discreet.governance.heads import proof_from_bytes

    check_sha256("key", key)
    read = proof_from_bytes(_content(proof))
    read.check(key)
    if as_json:
        say_json({"holds": True, "proof": read.KIND, "told": read.told()})
    else:
        say(f"holds: {read.told()}")


@app.command()
def show(
    ledger: LedgerPlace = DEFAULT_LEDGER,
    since: Annotated[int, typer.Option("--since", help="Number of the first row to show.", min=0)] = 0,
    kind: Annotated[str | None, typer.Option("--kind", help="Rows of this kind alone, such as reserve.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")] = False,
) -> None:
    """Show the journal's rows. It stops at the first that does not fit the chain, with exit code 3."""
    with _opened(ledger) as journal:
        for entry in journal.rows():
            if entry.seq >= since and kind in {None, entry.kind}:
                _show(entry, as_json)


def _show(entry: Entry, as_json: bool) -> None:
    if as_json:
        line = {"row": entry.seq, "kind": entry.kind, "at": entry.at, "facts": entry.facts, "hash": entry.hash.hex()}
        screen.print(json.dumps(line), soft_wrap=True)
    else:
        facts = " ".join(f"{name}={value}" for name, value in entry.facts.items() if value is not None)
        say(f"{entry.seq} {entry.at} {entry.kind} {facts}".rstrip())


@contextmanager
def _opened(ledger: str) -> Iterator[Journal]:
    """Open a journal to look at it, also one that was rolled back: to tell that is what most of these are for."""
    from discreet.governance.journal import Journal
    from discreet.governance.tables import opened

    with closing(opened(ledger, 30.0, may_create=False)) as database:
        yield Journal(database)


def _wrapping(ledger: str, master_key: Path | None, key_service: str | None) -> Wrapping | None:
    """Return what opens people's keys: as it is named, or as a service has it beside its database; or None."""
    from discreet.governance.keys import Master
    from discreet.governance.places import file_of

    if key_service is not None:
        return hooked(key_service)
    if master_key is None:
        file = file_of(ledger)
        beside = None if file is None else file.parent / MASTER
        if beside is None or not os.access(beside, os.R_OK):  # an auditor need not have it
            return None
        master_key = beside
    return Master.read(master_key)


def _kept(journal: Journal, *, anew: bool = False) -> SignedHead:
    from discreet.errors import SettingError
    from discreet.governance.places import NAMED
    from discreet.governance.witness import configured

    witness = configured(None)
    if witness is None:
        raise SettingError(f"heads are kept in a witness: name its file, by `discreet --witness FILE` or {NAMED}")
    return witness.keep(journal, anew=anew)


def _content(path: Path) -> bytes:
    from discreet.errors import DataError

    try:
        with path.open("rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _head(text: str | None) -> Head | None:
    from discreet.errors import SettingError
    from discreet.governance.journal import Head

    if text is None:
        return None
    seq, _, digest = text.partition(":")
    if not seq.isdecimal() or len(digest) != 64:
        raise SettingError("a head is SEQ:HASH, as `discreet journal verify` prints it")
    return Head(int(seq), digest)
