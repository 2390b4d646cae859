"""Gates of format 1, whose word for inconclusive was another."""

import msgspec

from tests.deploy.ledger.ledgers import gate_of
from toolchain.records.gate import FORMAT, Gate
from toolchain.records.storage import decode_record, encode_record


def test_a_gate_of_format_1_is_read_as_inconclusive() -> None:
    gate = msgspec.structs.replace(gate_of(), verdict="inconclusive")
    old = encode_record(gate).replace(b'"inconclusive"', b'"unsure"').replace(b'"format":2', b'"format":1')
    assert b"unsure" in old
    assert decode_record(old, Gate, "old.json", FORMAT) == gate
