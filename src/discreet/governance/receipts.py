"""Receipts of consents: by ISO/IEC TS 27560, and in the form of the Kantara Initiative, for other tools.

What is kept is a record (`consent`). A receipt is a copy of it under a name that follows from the record's, so that it
can be had again at any time, and the row of the journal that has the record's hash, by which it can be proven. The
Consent Receipt Specification 1.1 says the same in older words; what it demands and the inventory does not tell is said
to be so: ``not stated``.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

VERSION = "KI-CR-v1.1.0"
UNSTATED = "not stated"


def receipt(record: dict[str, Any]) -> dict[str, Any]:
    """Return the receipt of a record; ``journal_row`` is None of one that does not tell it."""
    return {
        "receipt_id": str(uuid.uuid5(uuid.UUID(record["record_id"]), "receipt")),
        "schema_version": record["schema_version"],
        "journal_row": record["discreet"].get("journal_row"),
        "record": record,
    }


def kantara(record: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    """Return it in that form.

    Args:
        record: of a consent.
        key: with which heads of the journal are signed that has the record's hash, hex; None if there is none.
    """
    read, (controller,) = record["pii_information"], record["pii_controllers"]
    recipients = record["recipient_third_parties"]
    purpose = {
        "purpose": record["purpose_description"],
        "purposeCategory": [record["purpose_type"]],
        "consentType": "EXPLICIT",
        "piiCategory": sorted({each["pii_type"] for each in read}),
        "primaryPurpose": True,
        "termination": f"withdrawn by {record['withdrawal_method']}, or after {record['event']['validity_duration']}",
        "thirdPartyDisclosure": bool(recipients),
    }
    party = {
        "piiController": controller["party_name"],
        "contact": controller["party_officer"],
        "address": {"streetAddress": controller["party_address"]},
        "email": controller.get("party_email", UNSTATED),
        "phone": controller.get("party_phone", UNSTATED),
    }
    special = sorted({each["pii_type"] for each in read if each["sensitive_pii_category"]})
    return {
        "version": VERSION,
        "jurisdiction": record.get("jurisdiction", UNSTATED),
        "consentTimestamp": int(datetime.fromisoformat(record["event"]["event_time"]).timestamp()),
        "collectionMethod": record["collection_method"],
        "consentReceiptID": record["record_id"],
        **({"publicKey": key} if key else {}),
        "language": record["language"],
        "piiPrincipalId": record["pii_principal_id"],
        "piiControllers": [party | ({"piiControllerUrl": url} if (url := controller.get("party_url")) else {})],
        "policyUrl": record["privacy_notice"]["link"],
        "services": [
            {
                "service": ", ".join(record.get("services", [record["purpose"]])),
                "purposes": [purpose | ({"thirdPartyName": ", ".join(recipients)} if recipients else {})],
            }
        ],
        "sensitive": bool(special),
        "spiCat": special,
    }
