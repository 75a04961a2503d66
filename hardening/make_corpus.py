"""Write the inputs that every search begins with: small, of nobody, as the product itself writes them."""

from __future__ import annotations

import gzip
import json
import sqlite3
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import polars as pl
import targets

from discreet.data.catalogue import Catalogue
from discreet.data.intake import read_interactions
from discreet.data.interactions import Histories
from discreet.data.store import write_interactions
from discreet.evaluation.audit.shadow import OfLevel, ShadowAudit
from discreet.evaluation.favourites import Favourites
from discreet.evaluation.favourites import sheet_of as favourites_sheet
from discreet.evaluation.gains import Gains
from discreet.evaluation.lengths import Lengths
from discreet.evaluation.tradeoff import fit_unbilled
from discreet.evaluation.transcripts import Watched
from discreet.evaluation.trending import Trending
from discreet.governance.heads import Consistency, Inclusion, SignedHead, proof_to_bytes, sign
from discreet.governance.inventory import example
from discreet.governance.keyfiles import signing_key
from discreet.governance.ledger import Account, Ledger
from discreet.governance.pacing import Quality
from discreet.governance.tree import Frontier
from discreet.governance.witness import Witness
from discreet.inference import shared
from discreet.inference.on_device import sheet_of
from discreet.models.broadcast import SUMS, Broadcast
from discreet.models.deployment import TEMPLATE
from discreet.models.recipe import Kind
from discreet.models.sheet import patch
from discreet.models.trained import Trained
from discreet.privacy.adjacency import Window
from discreet.privacy.guarantee import Guarantee
from discreet.training.populations import Here
from discreet.training.rounds import train

ITEMS = 12
PROMISE = Guarantee(units=2_000_000, delta=1e-5)
CATALOGUE = Catalogue(ids=(101, 102, 103), titles=("One", "", "Three"), tags=(("x",), ("x", "y"), ()))


def put(target: str, name: str, content: bytes) -> None:
    """Write one input of a target."""
    folder = targets.CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def models() -> None:
    """One model file of each kind, and what a device is sent of it."""
    rng = np.random.default_rng(3)
    pairs = [(person, 101 + int(item)) for person in range(300) for item in rng.choice(ITEMS, 5, replace=False)]
    data = read_interactions({"user_id": [p for p, _ in pairs], "item_id": [i for _, i in pairs]}, name="small")
    histories = data.opened_for("train-recommender")
    tags = tuple(("low",) if item < ITEMS // 2 else ("high",) for item in range(ITEMS))
    described = replace(histories, catalogue=replace(histories.catalogue, tags=tags))
    kinds: tuple[Kind, ...] = ("popularity", "subspace", "gram", "ials", "als", "sgd")
    for kind in kinds:
        trained = fit_unbilled(described if kind == "subspace" else histories, 30.0, kind)
        put("model", kind, trained.to_bytes())
        sheet = sheet_of(trained)
        put("device", kind, sheet.to_bytes())
        if kind == "subspace":
            put("outline", "shared", shared.Server(trained).outline.to_bytes())
            counts = {"counts": sheet.arrays["counts"] + 1}
            put("change", "counts", patch(sheet.to_bytes(), replace(sheet, arrays=sheet.arrays | counts).to_bytes()))
        if kind in SUMS:
            _broadcasts(trained, histories)


def _broadcasts(trained: Trained, histories: Histories) -> None:
    """What devices are told in each round of a run, and of the released model."""
    watched, plan = Watched(trained.model), replace(trained.plan, noise="two-servers")
    train(watched, Here(histories), trained.plan, spend=lambda _: None)
    for number, state in enumerate((*watched.states, trained.state)):
        said = Broadcast.of(trained.model, plan, number, len(histories), bytes(32), state)
        put("broadcast", f"{trained.model.name}-{number}", said.to_bytes())


def documents() -> None:
    """JSON that commands release and read."""
    promise: dict[str, Any] = {"guarantee": PROMISE, "release": "spring"}
    gains = Gains(
        dataset="movies", kind="auto", epsilons=(0.5, 1.0, 2.0), mean=(0.01, 0.03, 0.05),
        products=((0.01, 0.0, 0.0), (0.0, 0.02, 0.001), (0.0, 0.001, 0.03)), noise=0.0001, product_noise=0.001,
        trained_on=800, measured=200, **promise,
    )  # fmt: skip
    put("gains", "gains", gains.to_bytes())
    lengths: dict[str, Any] = {"edges": (2, 4, 8), "counts": (3.5, -1.0, 20.0), "noise": 2.0, "people": 40}
    put("lengths", "lengths", Lengths(dataset="movies", **lengths, **promise).to_bytes())
    trending: dict[str, Any] = {"catalogue": CATALOGUE, "counts": (9.0, -0.5, 3.0), "noise": 1.5}
    lists: dict[str, Any] = {"catalogue": CATALOGUE, "cohorts": ("north", "south"), "lists": ((2, 0), (0, 1))}
    favourites = Favourites(dataset="movies", **lists, within=40.0, **promise)
    put("favourites", "favourites", favourites.to_bytes())
    put("device", "picks", favourites_sheet(favourites).to_bytes())
    put("trending", "trending", Trending(dataset="movies", **trending, **promise).to_bytes())
    bounds = {"mu_bound": 0.2, "mu_claim": 0.4, "epsilon_gaussian": 0.3, "epsilon_mu_gdp": 0.3, "epsilon_nothing": 0.1}
    told = {"release": "spring", "model": "0" * 64, "epsilon": 1.0, "delta": 1e-5, "canaries": 500}
    seen = {"auc_knowing": 0.52, "auc_lists": 0.5, "made": "2024-05-01T00:00:00Z", "version": "0.1.0"}
    audit = ShadowAudit(**told | bounds | seen)  # type: ignore[arg-type]
    put("audit", "audit", audit.to_bytes())
    levels = tuple(OfLevel(level=name, canaries=100, mu_bound=0.1, mu_claim=0.2) for name in ("strong", "light"))
    put("audit", "levels", replace(audit, levels=levels, epsilon_nothing=None).to_bytes())


def tables() -> None:
    """Text files: rated, with dates, with quotes, with numbers."""
    who = targets.PERSON
    rows = [f"{who},101,4.5,1714521600", "person-2,102,1,1714521601", f"{who},103,0,1714521602", "person-2,102,1,0"]
    events = "\n".join(["user_id,item_id,rating,timestamp", *rows, ""]).encode()
    dated = f"user_id,item_id,timestamp\n{who},a|b,2024-05-01\nperson-2,c,2024-06-01 12:00\n".encode()
    quoted = f'user_id,item_id,note\r\n"{who}","10""1","x, y"\r\n7,"a\nb",\r\n'.encode()
    numbers = b"user_id,item_id\n1,01\n2,9223372036854775807\n1,-3\n"
    samples = {"rated": events, "dated": dated, "quoted": quoted, "numbers": numbers}
    for name, content in samples.items():
        for target in ("csv", "txt", "window", "import"):
            put(target, name, content)
        put("tsv", name, content.replace(b",", b"\t"))
    put("txt", "tabs", events.replace(b",", b"\t"))
    put("catalogue", "described", b"item_id,title,sensitive,tags\n101,One,,x|y\n102,,health,\n103,Three,,x\n")
    put("catalogue", "genres", b"item_id,genres\na,Drama|War\nb,\n")
    put("levels", "levels", f"user_id,level\n{who},strong\nperson-2,off\n3,light\n".encode())
    put("attribute", "attribute", f"user_id,level\n{who},a\nperson-2,\n3,b\n".encode())


def parquet() -> None:
    """Parquet, of another program and of ours."""
    frame = {"user_id": [targets.PERSON, "p2", "p2"], "item_id": [1, 2, 3], "timestamp": [1.0, 2.0, 3.0]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        pl.DataFrame(frame).write_parquet(path)
        put("parquet", "plain", path.read_bytes())
        pl.DataFrame(frame).write_parquet(path, compression="uncompressed", statistics=False)
        put("parquet", "uncompressed", path.read_bytes())
        write_interactions(read_interactions(frame, name="small", catalogue=CATALOGUE_OF_NUMBERS), path)
        put("parquet", "imported", path.read_bytes())


CATALOGUE_OF_NUMBERS = Catalogue(ids=(1, 2, 3), titles=("One", "Two", "Three"))


def ledger() -> None:
    """A ledger with everything in it, edits of it, and its journal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        spec, people = "0" * 64, targets.PEOPLE
        with Ledger(path) as book:
            train, months = Account("movies", "train"), Account("movies", "months", Window("2024-05"))
            book.open_budget(train, epsilon=8.0, delta=1e-6, person_epsilon=4.0)
            book.open_budget(months, epsilon=2.0, delta=1e-6, until="2090-01-01")
            book.set_pace(months, Quality(price=1_000_000), per_year=12)
            book.limit_person("movies", "cid", epsilon=0.5, delta=1e-6)
            book.reserve(train, cost=1_000, release="waiting", spec=spec, people=people)
            prices = np.array([100, 900, 1_000], np.int64)
            made = book.reserve(train, cost=1_000, release="settled", spec=spec, people=people, prices=prices)
            made.use(np.array([50, 900, 0], np.int64))
            book.commit("settled", "1" * 64, made.used)
            book.reserve(train, cost=5, release="given up", spec=spec, people=["ann"])
            book.abandon("given up")
            book.raise_cap(train, epsilon=9.0, by=["eve", "fay"])
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        (targets.CORPUS / "ledger.db.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    put("ledger", "untouched", b"")
    put("ledger", "one byte", mutations.EDIT.pack(4096 + 8, 0) + b"\x05")
    put("journal", "as it is", targets.bodies())
    heads()


def heads() -> None:
    """The witness of that ledger, torn too; and a proof of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        path, file = Path(folder) / "heads", Path(folder) / "ledger.db"
        Path(f"{path}.key").write_bytes(targets.WITNESS_KEY)
        file.write_bytes(gzip.decompress((targets.CORPUS / "ledger.db.gz").read_bytes()))
        with Ledger(file) as book:
            # The witness of the ledger as it is in the corpus, which has no row that tells of it yet.
            key = signing_key(Path(f"{path}.key"))
            first = SignedHead.over(Frontier(book.journal.hashes(0, 5)), book.journal.identity(), key)
            path.write_bytes(first.to_bytes() + b"\n" + sign(book.journal, key).to_bytes() + b"\n")
            put("witness", "two heads", path.read_bytes())
            put("witness", "torn", path.read_bytes() + first.to_bytes()[:200])
            last = Witness(path).keep(book.journal)
            put("proof", "inclusion", proof_to_bytes(Inclusion.of(book.journal, 3, last)))
            put("proof", "consistency", proof_to_bytes(Consistency.of(book.journal, first, last)))


def words() -> None:
    """What somebody types."""
    head = f"7:{'0' * 64}"
    for name, text in {
        "account": "movies/train/2024-05/interaction", "window": "2024-05-17", "time": "2027-01-01T00:00:00+02:00",
        "level": "balanced", "claim": "eps=1,delta=1e-6", "head": head, "share": "75%", "items": "101, 102\n103",
        "weight": "health=0.125",
    }.items():  # fmt: skip
        put("words", name, text.encode())


def statements() -> None:
    """What a publisher states."""
    put("statement", "template", TEMPLATE.encode())


def messages() -> None:
    """One message of each kind, with a field of each type filled."""
    values: dict[str, Any] = {
        "int": 24,
        "bytes": bytes(range(32)),
        "tuple[int, ...]": (0, 2, 7),
        "tuple[bytes, ...]": (b"", b"abc", bytes(40)),
    }
    fitting: dict[str, Any] = {
        "degree": 46,
        "threshold": 24,
        "survivors": 24,
        "second": bytes(32),
        "answerer": b"bank",
        "both": 1,
        "counted": 0,
        "organisations": tuple(bytes([number] * 32) for number in range(3)),
        "weights": (1, 2, 3),
        "count": 5,
        "scheme": b"none 4",
    }
    for kind in targets.KINDS:
        message = kind(**{each.name: fitting.get(each.name, values[str(each.type)]) for each in fields(kind)})
        put("messages", kind.__name__.lower(), message.to_bytes())


def service() -> None:
    """What a service takes: files and bodies of events, its inventory, its master key, the ids of receipts."""
    who = targets.PERSON
    events = [("ann", "101", None), (who, "102", 1_714_521_600), (who, "a", 1_714_521_600.5), (who, "a", None)]
    told = [{"user_id": user, "item_id": item} | ({"timestamp": at} if at else {}) for user, item, at in events]
    other = {"user_id": 7, "item_id": 101, "timestamp": "2024-05-01", "weight": 0.0, "shoe": [1, {"x": None}]}
    rows = "".join(f"{user},{item},{at or 0}\n" for user, item, at in events)
    put("collected", "events", f"user_id,item_id,timestamp\n{rows}".encode())
    put("collected", "undeclared", f"user_id,item_id,rating,shoe\nann,101,4,40\n{who},102,0,\n".encode())
    put("lines", "events", "".join(json.dumps(each) + "\n" for each in told).encode())
    put("lines", "other", f"{json.dumps(other)}\n{json.dumps(other)}\n".encode())
    put("sent", "events", json.dumps({"events": told}).encode())
    put("sent", "undeclared", json.dumps({"events": [told[0] | {"shoe": [1, {"x": None}], "note": "a"}]}).encode())
    put("receipt", "known", targets.RECEIPT.encode())
    put("receipt", "other", b"-" * 36)
    text = example("shop")
    put("inventory", "example", text.encode())
    short = text[: text.index("email =")] + text[text.index("[owners]") : text.index("[[risk]]")]
    put("inventory", "short", (short + text[text.index("[[purpose]]") :]).encode())
    put("master", "one", targets.MASTER)
    put("master", "two", b"0a" * 32 + b"\n" + targets.MASTER)


if __name__ == "__main__":
    for make in (models, documents, tables, parquet, ledger, words, statements, messages, service):
        make()
