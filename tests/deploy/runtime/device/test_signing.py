from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from deploy.certificates import read_certificate, read_trusted_key, verify_certificate
from deploy.runtime.device.signing import KEY, is_signed_by, sign_certificate, signing_key
from tests.deploy.ledger.ledgers import certificate
from toolchain.errors import DeviceError, RecordError, UsageError
from toolchain.records.certificate import Certificate
from toolchain.records.storage import encode_record


def made(folder: Path) -> Certificate:
    return sign_certificate(certificate("b" * 64), signing_key(None, folder))


def test_what_was_signed_is_verified_with_and_without_a_trusted_key(tmp_path: Path) -> None:
    found = made(tmp_path)
    verify_certificate(encode_record(found), found)
    verify_certificate(encode_record(found), found, found.key)
    other = sign_certificate(certificate("b" * 64), signing_key(None, None))
    with pytest.raises(RecordError, match="not by the trusted key"):
        verify_certificate(encode_record(other), other, found.key)


def test_a_whole_number_in_a_field_for_fractions_is_signed_as_it_will_be_read(tmp_path: Path) -> None:
    key = signing_key(None, tmp_path)
    found = sign_certificate(msgspec.structs.replace(certificate("b" * 64), cold_start_s=2), key)
    assert is_signed_by(msgspec.json.decode(encode_record(found), type=Certificate), key)


def test_one_changed_figure_breaks_the_signature(tmp_path: Path) -> None:
    found = made(tmp_path)
    changed = encode_record(found).replace(b'"images": 100', b'"images": 200')
    assert changed != encode_record(found)
    place = tmp_path / "c.json"
    place.write_bytes(changed)
    document, read = read_certificate(place)
    with pytest.raises(RecordError, match="changed after it was signed"):
        verify_certificate(document, read)


def test_a_certificate_that_was_never_signed_is_refused() -> None:
    with pytest.raises(RecordError, match="not signed"):
        verify_certificate(encode_record(certificate("b" * 64)), certificate("b" * 64))


def test_a_document_that_holds_the_certificate_will_do(tmp_path: Path) -> None:
    found = made(tmp_path)
    place = tmp_path / "c.json"
    place.write_bytes(b'some table\n\n{"passed":true,"certificate":' + msgspec.json.encode(found) + b"}\n")
    verify_certificate(*read_certificate(place))
    place.write_text("hello")
    with pytest.raises(RecordError, match="not a certificate"):
        read_certificate(place)
    with pytest.raises(UsageError, match="No such file"):
        read_certificate(tmp_path / "none")


def test_a_device_keeps_its_key_also_when_two_containers_start_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {bytes(key) for key in pool.map(lambda _: signing_key(None, tmp_path), range(16))}
    assert len(keys) == 1
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


def test_a_mounted_key_goes_before_the_one_that_was_made(tmp_path: Path) -> None:
    mounted = tmp_path / "mine"
    mounted.write_bytes(b64encode(bytes(range(32))))
    assert bytes(signing_key(mounted, tmp_path)) == bytes(range(32))
    mounted.write_text("hello")
    with pytest.raises(DeviceError, match="no key to sign with"):
        signing_key(mounted, None)
    mounted.write_bytes(b64encode(bytes(8)))
    with pytest.raises(DeviceError, match="8 bytes; a key to sign with has 32"):
        signing_key(mounted, None)


def test_a_trusted_key_is_text_or_a_file(tmp_path: Path) -> None:
    key = b64encode(bytes(32)).decode()
    place = tmp_path / "device.pub"
    place.write_text(key + "\n")
    assert read_trusted_key(str(place)) == read_trusted_key(key) == key
    assert read_trusted_key(None) is None
    for wrong in ("hello!", b64encode(bytes(4)).decode()):
        with pytest.raises(UsageError, match="--key: "):
            read_trusted_key(wrong)
