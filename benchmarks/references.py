"""Published figures made again, so that the harness can be trusted: known data, known split, known method.

    python benchmarks/references.py --ncf ratings.parquet negatives.parquet --gowalla checkins.parquet

Two rows, both without privacy. EASE is this project's own ``gram`` without noise, on the leave-one-out split of NCF (He
et al. 2017): each person's last film among 99 that they never rated. GF-CF is ten lines below, on the split of NGCF and
LightGCN, the whole catalogue ranked; EASE's published row there would need the inverse of a 41k x 41k matrix. Both are
counted with the product's metrics.

The first file has the columns user_id, item_id and split_ncf (``train`` or ``test``), the second user_id and negatives
(lists of items); the third user_id, item_id and split.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from quality import console, machine
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from discreet import read_interactions
from discreet.data.catalogue import Catalogue
from discreet.data.interactions import Histories
from discreet.evaluation.ranking import hits_of, ndcg, recall
from discreet.evaluation.tradeoff import PURPOSE
from discreet.models.gram import Gram
from discreet.privacy.plan import Plan
from discreet.training.populations import Here
from discreet.training.rounds import train

NCF_RIDGE = 1320.0
NCF_PUBLISHED = {"HR@10": 0.7192, "NDCG@10": 0.4494}
NCF_SOURCE = "EASE, MovieLens-1M, NCF split (Ferrari Dacrema et al. 2021, table 55)"
GOWALLA_PUBLISHED = {"Recall@20": 0.1849, "NDCG@20": 0.1518}
GOWALLA_SOURCE = "GF-CF, gowalla, NGCF split (Shen et al. 2021; BARS leaderboard)"
GOWALLA_RANK, GOWALLA_LOW_PASS = 256, 0.3
BLOCK = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ncf", nargs=2, type=Path, metavar=("INTERACTIONS", "NEGATIVES"))
    parser.add_argument("--gowalla", type=Path, metavar="INTERACTIONS")
    arguments = parser.parse_args()
    if not arguments.ncf and not arguments.gowalla:
        parser.error("give --ncf, --gowalla, or both")
    console.print(f"{machine()}; no privacy, no seeds: nothing here is random")
    table = Table("reference", "metric", "published", "here", "CPU s", box=SIMPLE_HEAD, pad_edge=False)
    if arguments.ncf:
        show(table, NCF_SOURCE, NCF_PUBLISHED, *timed(lambda: ncf(*arguments.ncf)))
    if arguments.gowalla:
        show(table, GOWALLA_SOURCE, GOWALLA_PUBLISHED, *timed(lambda: gowalla(arguments.gowalla)))
    console.print(table)


def timed(measured: Callable[[], dict[str, float]]) -> tuple[dict[str, float], float]:
    """Return what ``measured`` returns, and the CPU seconds that it took."""
    started = time.process_time()
    return measured(), time.process_time() - started


def show(table: Table, source: str, published: dict[str, float], here: dict[str, float], seconds: float) -> None:
    """Add a line a metric."""
    for metric, value in published.items():
        table.add_row(source, metric, f"{value:.4f}", f"{here[metric]:.4f}", f"{seconds:.0f}")


def ncf(interactions: Path, negatives: Path) -> dict[str, float]:
    """Rank each person's last film among the 99, by EASE."""
    frame = pl.read_parquet(interactions)
    histories = opened(frame.filter(pl.col("split_ncf") == "train"), frame, "ncf")
    items = len(histories.catalogue)
    model = Gram(people=len(histories), items=items, kept=items, private=False, ridge=NCF_RIDGE)
    plan = Plan.without_noise(model.rounds, delta=1e-6)
    trained = train(model, Here(histories), plan, spend=nothing)
    test = frame.filter(pl.col("split_ncf") == "test").join(pl.read_parquet(negatives), on="user_id").sort("user_id")
    place = {item: position for position, item in enumerate(histories.catalogue.ids)}
    wanted = np.array([place[item] for item in test["item_id"]])
    others = np.array([[place[item] for item in row] for row in test["negatives"]])
    scores = trained.scores(histories.matrix)
    people = np.arange(len(histories))[:, None]
    ahead = (scores[people, others] > scores[people, wanted[:, None]]).sum(axis=1)
    hits = ahead[:, None] == np.arange(10)
    ones = np.ones(len(hits), np.int64)
    return {"HR@10": float(recall(hits, ones).mean()), "NDCG@10": float(ndcg(hits, ones).mean())}


def gowalla(interactions: Path) -> dict[str, float]:
    """Rank the whole catalogue for everybody, by GF-CF."""
    frame = pl.read_parquet(interactions)
    known = opened(frame.filter(pl.col("split") == "train"), frame, "known").matrix.astype(np.float32)
    held = opened(frame.filter(pl.col("split") == "test"), frame, "held").matrix
    popular = np.sqrt(np.maximum(known.sum(axis=0), 1.0))
    scaled = csr_array(diags_array(1 / np.sqrt(known.sum(axis=1))) @ known @ diags_array(1 / popular))
    _, _, directions = svds(scaled, k=GOWALLA_RANK, random_state=0)
    found, gained = [], []
    for start in range(0, known.shape[0], BLOCK):
        rows = known[start : start + BLOCK]
        low_pass = ((rows @ diags_array(1 / popular)) @ directions.T) @ (directions * popular)
        scores = csr_array((rows @ scaled.T) @ scaled).toarray() + GOWALLA_LOW_PASS * low_pass
        wanted = held[start : start + BLOCK]
        hits, sizes = hits_of(scores.astype(np.float32), rows, wanted, 20), np.diff(wanted.indptr).astype(np.int64)
        found.append(hits.sum(axis=1) / sizes)  # this split's recall is over all that was held, however many
        gained.append(ndcg(hits, sizes))
    return {"Recall@20": float(np.concatenate(found).mean()), "NDCG@20": float(np.concatenate(gained).mean())}


def nothing(units: int) -> None:
    """Book nothing: a run without noise has no price."""


def opened(rows: pl.DataFrame, everything: pl.DataFrame, name: str) -> Histories:
    """Return the histories in ``rows``, over all items that there are."""
    catalogue = Catalogue(tuple(everything["item_id"].unique().sort().to_list()))
    columns = rows.select("user_id", "item_id")
    return read_interactions(columns, name=name, purposes=[PURPOSE], catalogue=catalogue).opened_for(PURPOSE)


if __name__ == "__main__":
    main()
