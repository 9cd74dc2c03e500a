"""The keys in memory: what opens the server, and what a second reading changes."""

from pathlib import Path

import pytest

from octavo.engine.errors import ConfigurationError
from octavo.engine.settings import Settings
from octavo.server.keys import KeyRing, digest_of
from octavo.server.tenants import TenantSalts


def ring_of(settings: Settings) -> KeyRing:
    return KeyRing(settings.all_api_keys, settings.all_admin_keys)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# the team\nold-key\n\nkept-key\n")
    return path


def test_keys_of_flag_and_file_open_and_others_do_not(key_file: Path) -> None:
    ring = ring_of(Settings.load({"api_key": ["flag-key"], "api_key_file": key_file}))
    assert not ring.is_open
    assert all(ring.admits(digest_of(key)) for key in ("flag-key", "old-key", "kept-key"))
    for wrong in ("", "old-ke", "old-key ", "# the team", "OLD-KEY", "old-key\nkept-key"):
        assert not ring.admits(digest_of(wrong))
    assert not ring.admits(b"")
    assert not ring.is_admin(digest_of("old-key"))


def test_a_second_reading_replaces_the_keys_of_the_file_alone(key_file: Path) -> None:
    ring = ring_of(Settings.load({"api_key": ["flag-key"], "api_key_file": key_file}))
    key_file.write_text("kept-key\nnew-key\n")
    assert ring.reload()
    keys = ("flag-key", "old-key", "kept-key", "new-key")
    assert [ring.admits(digest_of(key)) for key in keys] == [True, False, True, True]


@pytest.mark.parametrize("content", [b"", b"# none\n", b"\xff\xfe key", None])
def test_a_file_that_is_not_sound_keeps_every_key(
    content: bytes | None, key_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admins = tmp_path / "admins"
    admins.write_text("admin-key\n")
    ring = ring_of(Settings.load({"api_key_file": key_file, "admin_key_file": admins}))
    admins.write_text("another-admin-key\n")  # sound, but of one piece with the other
    if content is None:
        key_file.unlink()
    else:
        key_file.write_bytes(content)
    assert not ring.reload()
    assert ring.admits(digest_of("old-key"))
    assert ring.is_admin(digest_of("admin-key"))
    assert not ring.is_admin(digest_of("another-admin-key"))
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert str(key_file) in record.getMessage()
    assert "stay as they were" in record.getMessage()


def test_the_first_reading_must_succeed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--api-key-file"):
        ring_of(Settings.load({"api_key_file": tmp_path / "absent"}))


def test_isolation_without_keys_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--isolate-tenants"):
        Settings.load({"isolate_tenants": True})


def test_salts_differ_by_key_by_own_salt_and_by_process() -> None:
    one, other = digest_of("one"), digest_of("other")
    salts = TenantSalts()
    assert salts.salt(one, "") == salts.salt(one, "")
    given = [(one, ""), (other, ""), (one, "a"), (other, "a"), (b"", ""), (b"", "a")]
    assert len({salts.salt(*pair) for pair in given}) == len(given)
    assert TenantSalts().salt(one, "") != salts.salt(one, "")
    shared = [TenantSalts(b"x" * 32).salt(one, "a") for _ in range(2)]
    assert shared[0] == shared[1]
