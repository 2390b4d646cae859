"""inference.proto, its compiled descriptors and NVIDIA Triton's own client agree on every message."""

import json
import re
import subprocess
import sys

from deploy.runtime.grpc.messages import DESCRIPTORS, message_classes
from deploy.runtime.grpc.methods import GrpcMethods
from tests.house.tree import ROOT

PROTO = DESCRIPTORS.with_suffix(".proto").read_text()
FIELD = re.compile(r"^ +(repeated )?([\w.]+|map<string, \w+>) (\w+) = (\d+);$", re.MULTILINE)
# Run in a process of its own: there both pools hold messages of the same names.
COMPARE = """
import json, tritonclient.grpc.service_pb2 as service, tritonclient.grpc.model_config_pb2 as config
from deploy.runtime.grpc.messages import message_classes

def place(name):
    found = service if hasattr(service, name.split(".")[0]) else config
    for part in name.split("."):
        found = getattr(found, part)
    return found.DESCRIPTOR

def kind(field):
    named = field.message_type or field.enum_type
    entry = field.message_type and field.message_type.GetOptions().map_entry
    value = [kind(field.message_type.fields_by_name[key]) for key in ("key", "value")] if entry else None
    values = [(one.name, one.number) for one in field.enum_type.values] if field.enum_type else None
    return field.number, field.type, field.is_repeated, named and named.full_name, value, values

compared = 0
for name, made in message_classes().items():
    theirs = place(name)
    assert made.DESCRIPTOR.full_name == theirs.full_name
    for field in made.DESCRIPTOR.fields:
        assert kind(field) == kind(theirs.fields_by_name[field.name]), (name, field.name)
        compared += 1
    for choice in made.DESCRIPTOR.oneofs:
        assert [one.name for one in choice.fields] == [one.name for one in theirs.oneofs_by_name[choice.name].fields]
print(json.dumps([len(message_classes()), compared]))
"""


def test_every_field_is_that_of_tritons_own_client() -> None:
    done = subprocess.run([sys.executable, "-c", COMPARE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    messages, fields = json.loads(done.stdout)
    assert messages > 40 and fields > 100


def test_the_descriptors_were_compiled_from_the_source_beside_them() -> None:
    written = {(name, int(number)) for _, _, name, number in FIELD.findall(PROTO)}
    compiled = {(field.name, field.number) for kind in message_classes().values() for field in kind.DESCRIPTOR.fields}
    assert written - compiled == set()
    assert compiled <= written
    assert len(re.findall(r"^ *message ", PROTO, re.MULTILINE)) == len(message_classes())


def test_every_method_of_the_source_is_served() -> None:
    methods = set(re.findall(r"^  rpc (\w+)", PROTO, re.MULTILINE))
    assert methods - {"ModelInfer", "ModelStreamInfer"} == set(GrpcMethods.handlers(object.__new__(GrpcMethods)))
