"""``discreet disclose``: what a registry, or an evaluator, is told of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discreet.cli.models import audit_of, place_of_audit
from discreet.cli.output import Json, say, say_json

if TYPE_CHECKING:
    from discreet.models.trained import Trained

FORMATS = ("opendp", "nist")


def disclose(
    file: Annotated[Path | None, typer.Argument(help="A model file.")] = None,
    about: Annotated[Path | None, typer.Option("--about", help="TOML file of what its publisher states.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="opendp: a registry's record; nist: an evaluator's checklist.")
    ] = "opendp",
    audit: Annotated[
        Path | None, typer.Option("--audit", help="What was found of this file; by default MODEL.audit.json beside it.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write it here instead; must not exist.")] = None,
    template: Annotated[bool, typer.Option("--template", help="Print a file for --about, to be filled in.")] = False,
    as_json: Json = False,
) -> None:
    """Print what a registry, or an evaluator, is told of a model: the claim, measured bounds, what is not covered.

    The record has the fields of the OpenDP Deployments Registry, as JSON, which is YAML too. The checklist follows the
    subjects of NIST SP 800-226, each answer with its evidence.
    """
    from discreet.errors import SettingError
    from discreet.files import write_bytes
    from discreet.models.deployment import TEMPLATE
    from discreet.models.trained import Trained
    from discreet.training.billing import check_free, checked_target

    target = checked_target(out)
    check_free(target)
    if template:
        if target:
            write_bytes(target, TEMPLATE.encode())
        else:
            say(TEMPLATE.rstrip())
        return
    if form == "nist" and about:
        raise SettingError("--about is for a registry's record: leave it out")
    if file is None or form not in FORMATS:
        raise SettingError("give a model file" if file is None else f"--format is one of {', '.join(FORMATS)}")
    found, trained = _audit(file, audit), Trained.load(file)
    document = _record(file, trained, about, found) if form == "opendp" else _checklist(trained, found)
    page = form == "nist" and not as_json
    if target:
        write_bytes(target, (_page(trained, found) if page else json.dumps(document, indent=2) + "\n").encode())
    elif page:
        say(_page(trained, found))
    else:
        say_json(document)


def _audit(file: Path, audit: Path | None) -> dict[str, Any] | None:
    beside = audit or place_of_audit(file)
    return audit_of(file, beside).to_dict() if audit or beside.exists() else None


def _record(file: Path, trained: Trained, about: Path | None, audit: dict[str, Any] | None) -> dict[str, Any]:
    from discreet.errors import SettingError
    from discreet.governance.checks import sha256
    from discreet.models.deployment import Deployment, registry_record

    if about is None:
        raise SettingError("a registry asks what no program can know: give --about FILE (--template prints one)")
    return registry_record(trained, sha256(file.read_bytes()), Deployment.read(about), audit)


def _checklist(trained: Trained, audit: dict[str, Any] | None) -> dict[str, Any]:
    from discreet.models.checklist import checklist, checklist_document

    return checklist_document(checklist(trained, audit))


def _page(trained: Trained, audit: dict[str, Any] | None) -> str:
    from discreet.models.checklist import checklist, checklist_markdown

    return checklist_markdown(checklist(trained, audit))
