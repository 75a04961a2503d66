"""``python -m discreet.client``: a device as a program. ``--help`` tells the rest."""

from __future__ import annotations

import os

os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # one row is soon made; a compiler would not fit on a small device

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discreet.client.answering import Answering, listening, serve
from discreet.client.device import Allowance, Device, Items
from discreet.client.enrolment import public_keys, read_lines, read_roster
from discreet.client.spending import Spending
from discreet.client.taking_part import Person, take_part
from discreet.client.wire import Wire
from discreet.errors import DiscreetError, SettingError
from discreet.files import write_bytes
from discreet.governance.keyfiles import make_key, signing_key
from discreet.privacy.levels import OFFERED, Level
from discreet.privacy.plan import COLLUDING
from discreet.protocols.keys import public_bytes
from discreet.protocols.secagg.terms import Policy


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        asked.command(asked)
    except DiscreetError as error:
        print(f"discreet: {error}", file=sys.stderr)  # noqa: T201 - a program speaks
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except Exception as error:  # noqa: BLE001 - one line, without anything of a history
        print(f"discreet: a defect of discreet: {type(error).__name__}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def enrol(asked: argparse.Namespace) -> None:
    """Make a signing key, and print its public half: a line of the roster."""
    print(make_key(asked.identity, Ed25519PrivateKey).hex())  # noqa: T201 - a program speaks


def take(asked: argparse.Namespace) -> None:
    """Take part in a run; print what is done, and a list at the end."""
    person, seat = _person(asked)
    coordinator = Wire(asked.url, person.identity, seat, asked.ca, asked.patience)
    first = None if asked.first is None else Wire(asked.first, person.identity, seat, asked.ca, asked.patience)
    items, model = take_part(person, coordinator, _say, first=first)
    _end(asked, person.spending, person.device(items), model)


def answer(asked: argparse.Namespace) -> None:
    """Answer at a socket until stopped; print what is done, and a list with each released model."""
    person, seat = _person(asked)
    device = person.device(Items(json.dumps(sorted(read_lines(asked.items))).encode()))
    answering = Answering(device, seat, _say, lambda model: _end(asked, person.spending, device, model))
    with listening(asked.socket) as door:
        _say({"answers": str(asked.socket)})
        serve(answering, door)


def _person(asked: argparse.Namespace) -> tuple[Person, int]:
    """Return whose device this is, and their seat."""
    if asked.model and not asked.model.parent.is_dir():  # before anything is spent
        raise SettingError(f"{asked.model.parent} is not a folder; make it, or keep the model elsewhere")
    identity, roster = signing_key(asked.identity), read_roster(asked.roster)
    if public_bytes(identity) not in roster:
        raise SettingError("this device's key is not in the roster; enrol it first")
    seat, spending = roster.index(public_bytes(identity)), Spending(asked.book, asked.units)
    return Person(identity, roster, read_lines(asked.history), _allowance(asked), spending), seat


def _end(asked: argparse.Namespace, spending: Spending, device: Device, model: bytes | None) -> None:
    done: dict[str, Any] = {"spent": spending.spent, "of": spending.cap, "model": model is not None}
    done["peak_memory"] = _peak()
    if model is not None:
        done["list"] = device.rank(model, asked.n)
        if asked.model:
            write_bytes(asked.model, model)
    _say(done)


def _allowance(asked: argparse.Namespace) -> Allowance:
    servers = None
    if asked.servers is not None:
        keys = public_keys(asked.servers.split(","), "--servers")
        if len(keys) != 2:
            raise SettingError("--servers takes the keys of two servers, with a comma between")
        servers = keys[0], keys[1]
    policy = Policy(cohort=asked.cohort, survivors=asked.survivors)
    return Allowance(Level.named(asked.level), policy, asked.colluding, servers, asked.survivors)


def _peak() -> int | None:
    """Return the most memory that this process had, in bytes; None where the system does not tell."""
    try:
        told = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(told.partition("VmHWM:")[2].split()[0]) * 1024


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - a program speaks


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m discreet.client", description="A device: its history stays here.")
    commands = parser.add_subparsers(required=True)
    enrolment = commands.add_parser("enrol", help="make a signing key; prints its public half, a line of the roster")
    enrolment.add_argument("--identity", type=Path, required=True, help="file for the key; must not exist")
    enrolment.set_defaults(command=enrol)
    part = commands.add_parser("take-part", help="take part in a run, then print a list made here")
    part.add_argument("--url", required=True, help="of the coordinator, https")
    part.add_argument("--ca", type=Path, help="certificate that the servers' are signed by, pinned (PEM)")
    part.add_argument("--first", help="address of the first of two servers")
    part.add_argument("--servers", help="public keys (X25519, hex) of the first and second of two servers, pinned")
    part.add_argument("--patience", type=float, default=120.0, help="seconds for which a server is tried again")
    part.set_defaults(command=take)
    answering = commands.add_parser("answer", help="answer messages that another program carries, until stopped")
    answering.add_argument("--socket", type=Path, required=True, help="where to answer, for this user and group alone")
    answering.add_argument("--items", type=Path, required=True, help="ids of all items, one a line")
    answering.set_defaults(command=answer, servers=None)
    for each in (part, answering):
        _add_person(each)
    return parser


def _add_person(part: argparse.ArgumentParser) -> None:
    part.add_argument("--identity", type=Path, required=True, help="this device's signing key")
    part.add_argument("--roster", type=Path, required=True, help="keys of all devices, hex, one a line")
    part.add_argument("--history", type=Path, required=True, help="item ids, one a line; they stay here")
    part.add_argument("--book", type=Path, required=True, help="file in which this device books what it spends")
    part.add_argument(
        "--units", type=int, required=True, help="of mu^2, that it may spend: discreet federated allowance"
    )
    part.add_argument("--level", default="light", choices=[str(level) for level in OFFERED], help="how much it gives")
    part.add_argument("--cohort", type=int, default=10, help="fewest devices that it takes part with")
    part.add_argument("--survivors", type=int, default=7, help="fewest vectors in a sum")
    part.add_argument(
        "--colluding", type=float, default=COLLUDING, help="share of devices whose noise is not counted on"
    )
    part.add_argument("--model", type=Path, help="where to keep the released model")
    part.add_argument("-n", type=int, default=10, help="how many items to list")


if __name__ == "__main__":
    sys.exit(main())
