"""Keys in files: made once, read back, and told apart from what is none."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from discreet.errors import DataError, SettingError
from discreet.governance.keyfiles import exchange_key, make_key, signing_key
from discreet.protocols.keys import public_bytes


def test_a_key_is_made_once_and_read_back(tmp_path: Path) -> None:
    signing, exchange = tmp_path / "signing", tmp_path / "exchange"
    assert make_key(signing, Ed25519PrivateKey) == public_bytes(signing_key(signing))
    assert make_key(exchange, X25519PrivateKey) == public_bytes(exchange_key(exchange))
    assert signing.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingError, match="is there already"):
        make_key(signing, Ed25519PrivateKey)


@pytest.mark.parametrize(("content", "said"), [("00" * 31, "32 bytes"), ("x" * 64, "in hex"), (None, "in hex")])
def test_what_is_no_key(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(DataError, match=said):
        signing_key(tmp_path / "key")
