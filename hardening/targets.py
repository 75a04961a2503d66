"""What takes bytes from outside, and what must be true of it whatever they are.

A target reads its input as the product would, uses what it read as the product would, and lets nothing out but a value
or an error that the product raises on purpose: typed, on one line, without anything of a person.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mutations
import numpy as np
from pydantic import TypeAdapter
from sqlalchemy import select

from discreet.cli.journal import _head
from discreet.cli.levels import asked_weights
from discreet.cli.models import items_of
from discreet.cli.search import share_of
from discreet.data.bulk import collected
from discreet.data.catalogue import Catalogue
from discreet.data.importing import import_interactions
from discreet.data.intake import read_attribute, read_catalogue, read_interactions, read_levels
from discreet.data.records import Records
from discreet.data.vault import Collected
from discreet.errors import DataError, DiscreetError
from discreet.evaluation.audit.findings import Claim
from discreet.evaluation.audit.shadow import ShadowAudit
from discreet.evaluation.favourites import Favourites
from discreet.evaluation.favourites import sheet_of as favourites_sheet
from discreet.evaluation.gains import Gains
from discreet.evaluation.lengths import Lengths
from discreet.evaluation.trending import Trending
from discreet.governance import manifests
from discreet.governance.checks import instant, now
from discreet.governance.consent import later
from discreet.governance.heads import proof_from_bytes, proof_to_bytes
from discreet.governance.inventory import Inventory, example
from discreet.governance.journal import GENESIS, chained
from discreet.governance.keys import Master
from discreet.governance.ledger import Account, Ledger
from discreet.governance.schema import as_bytes, journal
from discreet.governance.sqlite import SQLite
from discreet.governance.witness import Witness
from discreet.inference.on_device import Device, Reply
from discreet.inference.outline import Outline
from discreet.models.broadcast import MOST, Broadcast
from discreet.models.card import card, card_markdown
from discreet.models.deployment import Deployment
from discreet.models.sheet import Sheet, patched
from discreet.models.trained import Trained
from discreet.privacy.adjacency import Window
from discreet.privacy.levels import Level
from discreet.protocols import (
    encryption,
    ensemble,
    intersection,
    oblivious,
    retrieval,
    scoring,
    sharing,
    simple_pir,
    two_servers,
)
from discreet.protocols.messages import Message
from discreet.protocols.ring import Ring
from discreet.protocols.secagg import terms as secagg
from discreet.service.api.door import ReceiptId
from discreet.service.api.recommending import Sent, _prepared
from discreet.service.jobs import ERASURE, PENDING, erasure

CORPUS = Path(__file__).parent / "corpus"
PERSON = "person-7731"
"""Who is in every table of the corpus, and in no message."""

PEOPLE: list[str | int] = ["ann", "bob", 3]
"""Who is in the ledger of the corpus."""

WITNESS_KEY = b"07" * 32
"""What signs the heads of the corpus, and nothing else."""

MASTER, RECEIPT = b"07" * 32 + b"\n", "01234567-89ab-cdef-0123-456789abcdef"
"""What wraps the keys of the records here, and an erasure in them."""

LISTED = 12
"""Items of the broadcasts in the corpus."""

LONGEST_MESSAGE = 2_000
"""A line that quotes all columns, or a name of 200 characters a few times, is shorter."""

KINDS: list[type[Message]] = [
    each
    for room in (
        *(secagg, sharing, scoring, retrieval, two_servers, oblivious),
        *(encryption, intersection, ensemble, simple_pir),
    )
    for each in vars(room).values()
    if isinstance(each, type)
    and issubclass(each, Message)
    and hasattr(each, "KIND")
    and each.__module__ == room.__name__
]
"""Everything that parties of a protocol send one another."""


@dataclass(frozen=True)
class Target:
    """Something to be fed: reads and uses an input, or raises; and how inputs for it are changed.

    What is ``typed`` may be repeated in a message, at any length: it is shown to whoever typed it.
    """

    name: str
    feed: Callable[[bytes], object]
    mutate: mutations.Mutation
    typed: bool = False

    @property
    def corpus(self) -> list[Path]:
        """The inputs that are kept: where a search begins, and whatever once broke something."""
        return sorted((CORPUS / self.name).iterdir())

    def run(self, content: bytes) -> bool:
        """Feed an input; tell whether it was accepted.

        Raises:
            AssertionError: the refusal is long, or more than a line, or tells of a person.
            Exception: anything else that got out is what is looked for.
        """
        try:
            self.feed(content)
        except DiscreetError as refused:
            message = str(refused)
            assert message.isprintable(), f"not one line: {message!r}"
            assert len(message) <= LONGEST_MESSAGE + 10 * len(content) * self.typed, f"too long: {message!r}"
            assert PERSON not in message or PERSON.encode() in content.split(b"\n", 1)[0], f"a person in: {message!r}"
            return False
        return True


@contextmanager
def _file(content: bytes, ending: str) -> Iterator[Path]:
    path = _folder() / f"input{ending}"
    path.write_bytes(content)
    yield path


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")  # noqa: S108 - a disk would only make this slower
    return tempfile.TemporaryDirectory(prefix="discreet-fuzz-", dir=memory if memory.is_dir() else None)


def _folder() -> Path:
    return Path(_scratch().name)


def _model(content: bytes) -> None:
    trained = Trained.from_bytes(content)
    repr(trained)
    card_markdown(card(trained))
    for history in ([], [101, 104], ["nothing"]):
        trained.recommend(history)
    with suppress(DiscreetError):  # some models cannot be explained
        trained.explain([101, 104], draws=2)


def _device(content: bytes) -> None:
    reply = Reply(hashlib.sha256(content).hexdigest(), content)
    Device().read(reply, [101, 104])


def _outline(content: bytes) -> None:
    """What a device is told of a model whose scores are computed elsewhere."""
    outline = Outline.from_bytes(content)
    known, unknown = outline.known([101, "nothing"])[1:]
    scores = np.zeros(len(outline.kept), np.float32)
    outline.listed(scores, known, unknown, 5)


def _change(content: bytes) -> None:
    """What turns the model that a device holds into a newer one."""
    Sheet.from_bytes(patched((CORPUS / "device" / "subspace").read_bytes(), content)).recommend([101, 104])


def _gains(content: bytes) -> None:
    gains = Gains.from_bytes(content)
    gains.to_dict()
    gains.smallest(0.75)


def _lengths(content: bytes) -> None:
    Lengths.from_bytes(content).to_bytes()


def _trending(content: bytes) -> None:
    trending = Trending.from_bytes(content)
    trending.to_bytes()
    trending.top()


def _favourites(content: bytes) -> None:
    favourites = Favourites.from_bytes(content)
    favourites.to_bytes()
    favourites.titles()
    sheet = Sheet.from_bytes(favourites_sheet(favourites).to_bytes())
    for cohort in favourites.cohorts:
        sheet.recommend(favourites.catalogue.ids[:1], 3, cohort)


def _audit(content: bytes) -> None:
    audit = ShadowAudit.from_bytes(content)
    audit.to_bytes()
    assert audit.passed in {True, False}


def _events(ending: str) -> Callable[[bytes], None]:
    def feed(content: bytes) -> None:
        with _file(content, ending) as path:
            data = read_interactions(path)
            data.describe()
            histories = data.opened_for("train-recommender")
            assert len(histories) == data.people

    return feed


def _window(content: bytes) -> None:
    with _file(content, ".csv") as path:
        read_interactions(path, window="2024-05")


def _import(content: bytes) -> None:
    out = _folder() / "imported.parquet"
    with _file(content, ".csv") as path:
        try:
            import_interactions(path, out)
        finally:
            out.unlink(missing_ok=True)
            assert {each.name for each in _folder().iterdir()} <= {f"input{ending}" for ending in ENDINGS}


ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".parquet", ".db", ".heads", ".heads.key")


def _catalogue(content: bytes) -> None:
    with _file(content, ".csv") as path:
        read_catalogue(path)


def _levels(content: bytes) -> None:
    with _file(content, ".csv") as path:
        read_levels(path)


def _attribute(content: bytes) -> None:
    with _file(content, ".csv") as path:
        read_attribute(path, "level")


@cache
def template() -> bytes:
    """A ledger with everything in it."""
    return gzip.decompress((CORPUS / "ledger.db.gz").read_bytes())


@contextmanager
def _held(content: bytes) -> Iterator[Ledger]:
    """The product's ledger over a file in memory."""
    path = _folder() / "input.db"
    if not path.exists():
        Ledger(path).close()
    with Ledger(path, create=False) as ledger:
        database = ledger._db
        assert isinstance(database, SQLite)
        database._connection.close()
        database._connection = connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.text_factory = lambda text: text.decode(errors="backslashreplace")
        # A file in memory has no write-ahead log; with other bytes here SQLite looks for one under a name of garbage.
        connection.deserialize(content[:18] + b"\x01\x01" + content[20:])
        database._prepare()
        yield ledger


def _use(ledger: Ledger) -> None:
    """Ask all that can be asked; one refusal does not spare the next question."""
    train, months = Account("movies", "train"), Account("movies", "months", Window("2024-05"))
    terms: dict[str, Any] = {"cost": 1_000, "spec": "0" * 64, "people": PEOPLE}
    questions: list[Callable[[], object]] = [
        ledger.accounts,
        ledger.releases,
        lambda: ledger.verify(ledger.journal.head()),
        lambda: ledger.outlook(train),
        lambda: ledger.outlook(months, at="2024-07-01"),
        lambda: ledger.person("movies", "ann"),
        lambda: ledger.reserve(train, release="new", **terms),
        lambda: ledger.reserve(train, release="settled", **terms, prices=np.array([100, 900, 1_000], np.int64)),
        lambda: ledger.commit("new", "1" * 64, np.array([1, 1, 1], np.int64)),
        lambda: ledger.abandon("waiting"),
        lambda: ledger.raise_cap(months, epsilon=3.0, by=["eve", "fay"]),
    ]
    refused = None
    for ask in questions:
        try:
            ask()
        except DiscreetError as error:
            refused = refused or error
    if refused:
        raise refused


def _ledger(content: bytes) -> None:
    with _held(mutations.edited(template(), content)) as ledger:
        _use(ledger)


@cache
def _without_journal() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(template()[:18] + b"\x01\x01" + template()[20:])
    (rule,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'journal_is_not_cut'").fetchone()
    for statement in ("DROP TRIGGER journal_is_not_cut", "DELETE FROM journal", rule):
        connection.execute(statement)
    return connection.serialize()


def _journal(content: bytes) -> None:
    """Rows that hold anything, well chained: what somebody who means harm would write."""
    with _held(_without_journal()) as ledger:
        assert isinstance(ledger._db, SQLite)
        connection, previous = ledger._db._connection, GENESIS
        for seq, body in enumerate(content.split(b"\n")):
            previous = chained(previous, seq, body)
            connection.execute("INSERT INTO journal VALUES (?, CAST(? AS TEXT), ?)", (seq, body, previous))
        _use(ledger)


def _proof(content: bytes) -> None:
    """What somebody is shown, under the key that it names itself."""
    proof = proof_from_bytes(content)
    assert proof_from_bytes(proof_to_bytes(proof)) == proof
    proof.check(proof.head.key)
    proof.told()


def _witness(content: bytes) -> None:
    """A witness of the ledger in the corpus: its key is beside the corpus' own."""
    with _file(content, ".heads") as path, _held(template()) as ledger:
        Path(f"{path}.key").write_bytes(WITNESS_KEY)
        witness = Witness(path)
        for look in (witness.check, witness.compare):
            look(ledger.journal)
        witness.keep(ledger.journal)


def _ended_or_torn(content: bytes, draw: random.Random) -> bytes:
    return mutations.lines_of_documents(content, draw) + b"\n" * draw.randrange(2)


def _statement(content: bytes) -> None:
    """What a publisher states, as a TOML file."""
    Deployment.from_bytes(content)


def _messages(content: bytes) -> None:
    """A message as bytes, taken for every kind that there is; and what is under a mask, for a vector of twenty."""
    refused = []
    for kind in KINDS:
        try:
            assert kind.from_bytes(content).to_bytes() == content
        except DiscreetError as error:
            refused.append(error)
    assert len(refused) >= len(KINDS) - 1, "a message is of one kind"
    with suppress(DiscreetError):
        Ring(20, 20).unpack(content)
    if len(refused) == len(KINDS):
        raise refused[0]


def _broadcast(content: bytes) -> None:
    """What a device is told, of the items that it knows: a row of the round, or a list after the last."""
    message = Broadcast.from_bytes(content, MOST)
    known = message.read(message.catalogue, LISTED)
    if known.number == known.plan.rounds:
        known.scores(np.array([0, 3, 7]))
    else:
        known.row(np.array([0, 3, 7]), known.plan.bounds[known.number])


class _Undone(Exception):
    """Ends what an input did to the records, which are the same for the next."""


@contextmanager
def _undone(records: Records) -> Iterator[None]:
    with suppress(_Undone), records.database.transaction():
        yield
        raise _Undone


@cache
def _records() -> Records:
    """A service's records: a catalogue, somebody who agreed, an erasure."""
    place = _records_folder() / "discreet.db"
    found = Records(place, Master.read(_master_of(MASTER)), Inventory.from_toml(example("shop").encode()))
    found.vault.set_items(Catalogue(("101", "102", "a")))
    for purpose in found.inventory.purposes:
        found.consents.give(PERSON, purpose.name)
    told = {"at": now(), "row": None, "after": 0}
    found.matters.open(ERASURE, PENDING, told, by="a search", due=later(now(), 90), name=RECEIPT)
    return found


@cache
def _kept_apart() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="discreet-fuzz-records-", dir=Path(_scratch().name).parent)


def _records_folder() -> Path:
    return Path(_kept_apart().name)


def _master_of(content: bytes) -> Path:
    path = _records_folder() / "master.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def _collected(ending: str) -> Callable[[bytes], None]:
    """A file of events, as the desk takes it in."""

    def feed(content: bytes) -> None:
        with _file(content, ending) as path, _undone(_records()):
            for told in collected(_records(), path):
                assert 0 <= told.kept <= 1_000

    return feed


def _sent(content: bytes) -> None:
    """The body of a request that sends events, as the framework reads it: what that refuses is a problem document."""
    try:
        sent = Sent.model_validate(json.loads(content))
    except (ValueError, RecursionError):
        raise DataError("this cannot be used") from None
    with _undone(_records()):
        (told,) = _records().vault.collect(
            [_prepared("a search", hashlib.sha256(content).hexdigest(), sent, True, _records())]
        )
        assert isinstance(told, Collected)


def _receipt(content: bytes) -> None:
    """The id of a receipt, in an address."""
    try:
        name = TypeAdapter(ReceiptId).validate_python(content.decode())
    except ValueError:
        raise DataError("there is nothing of this kind at this address") from None
    found = erasure(_records(), name)
    assert (found is not None) == (name == RECEIPT)


def _inventory(content: bytes) -> None:
    """What is declared, and what is told of it."""
    declared = Inventory.from_toml(content)
    assert {*declared.terms} == {purpose.name for purpose in declared.purposes}
    json.dumps(declared.to_dict(), allow_nan=False).encode()
    json.dumps(manifests.fides(declared), allow_nan=False).encode()
    manifests.record(declared).encode()
    manifests.assessment(declared, None, None).encode()
    for purpose in declared.purposes:
        with suppress(DiscreetError):
            declared.read_for(purpose.name)


def _master(content: bytes) -> None:
    """The file of the master key."""
    master = Master.read(_master_of(content))
    key = bytes(range(32))
    assert master.unwrap(master.wrap(key, b"here"), b"here") == key
    master.write(_records_folder() / "master.key")
    assert Master.read(_records_folder() / "master.key").keys == master.keys
    repr(master)


def _words(content: bytes) -> None:
    """What somebody types: each is read by itself, and the first refusal is told."""
    text = content.decode(errors="surrogateescape")
    readers: list[Callable[[str], object]] = [
        *(Account.named, Window, instant, Level.named, Claim.parse, _head, share_of, items_of),
        lambda text: asked_weights([text]),
    ]
    refused = []
    for read in readers:
        try:
            read(text)
        except DiscreetError as error:
            refused.append(error)
    if refused:
        raise refused[0]


TARGETS = {
    target.name: target
    for target in (
        Target("model", _model, mutations.archive),
        Target("device", _device, mutations.archive),
        Target("outline", _outline, mutations.archive),
        Target("change", _change, mutations.archive),
        Target("gains", _gains, mutations.document),
        Target("lengths", _lengths, mutations.document),
        Target("trending", _trending, mutations.document),
        Target("favourites", _favourites, mutations.document),
        Target("audit", _audit, mutations.document),
        Target("csv", _events(".csv"), mutations.table),
        Target("tsv", _events(".tsv"), mutations.table),
        Target("txt", _events(".txt"), mutations.table),
        Target("window", _window, mutations.table),
        Target("import", _import, mutations.table),
        Target("parquet", _events(".parquet"), mutations.raw),
        Target("catalogue", _catalogue, mutations.table),
        Target("levels", _levels, mutations.table),
        Target("attribute", _attribute, mutations.table),
        Target("ledger", _ledger, mutations.edits),
        Target("journal", _journal, mutations.lines_of_documents),
        Target("proof", _proof, mutations.document),
        Target("witness", _witness, _ended_or_torn),
        Target("statement", _statement, mutations.raw),
        Target("messages", _messages, mutations.raw),
        Target("broadcast", _broadcast, mutations.raw),
        Target("words", _words, mutations.raw, typed=True),
        Target("collected", _collected(".csv"), mutations.table),
        Target("lines", _collected(".jsonl"), mutations.lines_of_documents),
        Target("sent", _sent, mutations.document),
        Target("receipt", _receipt, mutations.raw),
        Target("inventory", _inventory, mutations.settings),
        Target("master", _master, mutations.raw),
    )
}


def bodies() -> bytes:
    """The journal's rows in the template, one a line."""
    with _held(template()) as ledger:
        rows = ledger._db.each(select(as_bytes(journal.c.body)).order_by(journal.c.seq))
        return b"\n".join(row[0] for row in rows)
