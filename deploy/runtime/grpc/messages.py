"""The messages of inference.GRPCInferenceService, as a table: no generated code, nothing to generate it with.

Names and numbers are those of the Open Inference Protocol (github.com/kserve/open-inference-protocol, gRPC) and of
NVIDIA Triton's extensions of it (statistics, model configuration, system shared memory), as far as this server speaks
them: fields that are left out are skipped when they come. A test holds the table against tritonclient's own messages.
"""

from functools import cache
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from toolchain.errors import RequestError

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
KINDS = {
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "DataType": FieldDescriptorProto.TYPE_ENUM,
}
# "number name kind": `*` repeated, `?` one of a choice, `@` a map from strings. A dot: a message inside another.
MESSAGES: dict[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 live bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 ready bool",
    "ModelReadyRequest": "1 name string, 2 version string",
    "ModelReadyResponse": "1 ready bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 name string, 2 version string, 3 extensions *string",
    "ModelMetadataRequest": "1 name string, 2 version string",
    "ModelMetadataResponse": "1 name string, 2 versions *string, 3 platform string, "
    "4 inputs *ModelMetadataResponse.TensorMetadata, 5 outputs *ModelMetadataResponse.TensorMetadata",
    "ModelMetadataResponse.TensorMetadata": "1 name string, 2 datatype string, 3 shape *int64",
    "InferParameter": "1 bool_param ?bool, 2 int64_param ?int64, 3 string_param ?string, 4 double_param ?double, "
    "5 uint64_param ?uint64",
    "InferTensorContents": "1 bool_contents *bool, 2 int_contents *int32, 3 int64_contents *int64, "
    "4 uint_contents *uint32, 5 uint64_contents *uint64, 6 fp32_contents *float, 7 fp64_contents *double, "
    "8 bytes_contents *bytes",
    "ModelInferRequest": "1 model_name string, 2 model_version string, 3 id string, 4 parameters @InferParameter, "
    "5 inputs *ModelInferRequest.InferInputTensor, 6 outputs *ModelInferRequest.InferRequestedOutputTensor, "
    "7 raw_input_contents *bytes",
    "ModelInferRequest.InferInputTensor": "1 name string, 2 datatype string, 3 shape *int64, "
    "4 parameters @InferParameter, 5 contents InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": "1 name string, 2 parameters @InferParameter",
    "ModelInferResponse": "1 model_name string, 2 model_version string, 3 id string, 4 parameters @InferParameter, "
    "5 outputs *ModelInferResponse.InferOutputTensor, 6 raw_output_contents *bytes",
    "ModelInferResponse.InferOutputTensor": "1 name string, 2 datatype string, 3 shape *int64, "
    "4 parameters @InferParameter, 5 contents InferTensorContents",
    "ModelStreamInferResponse": "1 error_message string, 2 infer_response ModelInferResponse",
    "ModelConfigRequest": "1 name string, 2 version string",
    "ModelConfigResponse": "1 config ModelConfig",
    "ModelInput": "1 name string, 2 data_type DataType, 4 dims *int64",
    "ModelOutput": "1 name string, 2 data_type DataType, 3 dims *int64",
    "ModelConfig": "1 name string, 2 platform string, 4 max_batch_size int32, 5 input *ModelInput, "
    "6 output *ModelOutput, 11 dynamic_batching ModelDynamicBatching, 17 backend string",
    "ModelDynamicBatching": "1 preferred_batch_size *int32, 2 max_queue_delay_microseconds uint64",
    "ModelStatisticsRequest": "1 name string, 2 version string",
    "ModelStatisticsResponse": "1 model_stats *ModelStatistics",
    "ModelStatistics": "1 name string, 2 version string, 3 last_inference uint64, 4 inference_count uint64, "
    "5 execution_count uint64, 6 inference_stats InferStatistics, 7 batch_stats *InferBatchStatistics",
    "StatisticDuration": "1 count uint64, 2 ns uint64",
    "InferStatistics": "1 success StatisticDuration, 2 fail StatisticDuration, 3 queue StatisticDuration, "
    "4 compute_input StatisticDuration, 5 compute_infer StatisticDuration, 6 compute_output StatisticDuration, "
    "7 cache_hit StatisticDuration, 8 cache_miss StatisticDuration",
    "InferBatchStatistics": "1 batch_size uint64, 2 compute_input StatisticDuration, "
    "3 compute_infer StatisticDuration, 4 compute_output StatisticDuration",
    "SystemSharedMemoryStatusRequest": "1 name string",
    "SystemSharedMemoryStatusResponse": "1 regions @SystemSharedMemoryStatusResponse.RegionStatus",
    "SystemSharedMemoryStatusResponse.RegionStatus": "1 name string, 2 key string, 3 offset uint64, 4 byte_size uint64",
    "SystemSharedMemoryRegisterRequest": "1 name string, 2 key string, 3 offset uint64, 4 byte_size uint64",
    "SystemSharedMemoryRegisterResponse": "",
    "SystemSharedMemoryUnregisterRequest": "1 name string",
    "SystemSharedMemoryUnregisterResponse": "",
    "CudaSharedMemoryStatusRequest": "1 name string",
    "CudaSharedMemoryStatusResponse": "",
    "CudaSharedMemoryUnregisterRequest": "1 name string",
    "CudaSharedMemoryUnregisterResponse": "",
}
DATA_TYPES = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "STRING", "BF16"),
)


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="edge_inference.proto", package=PACKAGE, syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        kinds.value.add(name=f"TYPE_{name}", number=number)
    for name, fields in MESSAGES.items():
        _fill(_place(file, name), name, fields)
    return file


def _place(file: FileDescriptorProto, name: str) -> DescriptorProto:
    """The message `name`, made inside the one that it belongs to."""
    outer, _, inner = name.rpartition(".")
    if not outer:
        return file.message_type.add(name=inner)
    return next(message for message in file.message_type if message.name == outer).nested_type.add(name=inner)


def _fill(message: DescriptorProto, name: str, fields: str) -> None:
    for words in filter(None, fields.split(", ")):
        number, field_name, kind = words.split()
        mark, kind = (kind[0], kind[1:]) if kind[0] in "*?@" else ("", kind)
        field = message.field.add(name=field_name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
        if mark == "@":
            kind = _entry(message, name, field_name, kind)
        if mark in ("*", "@"):
            field.label = FieldDescriptorProto.LABEL_REPEATED
        if mark == "?":
            if not message.oneof_decl:
                message.oneof_decl.add(name="parameter_choice")
            field.oneof_index = 0
        _type(field, kind)


def _entry(message: DescriptorProto, name: str, field_name: str, kind: str) -> str:
    """A map is a repeated message of key and value (protobuf.dev, encoding: maps)."""
    title = "".join(part.capitalize() for part in field_name.split("_")) + "Entry"
    entry = message.nested_type.add(name=title)
    entry.options.map_entry = True
    key = entry.field.add(name="key", number=1, label=FieldDescriptorProto.LABEL_OPTIONAL)
    key.type = FieldDescriptorProto.TYPE_STRING
    _type(entry.field.add(name="value", number=2, label=FieldDescriptorProto.LABEL_OPTIONAL), kind)
    return f"{name}.{title}"


def _type(field: FieldDescriptorProto, kind: str) -> None:
    field.type = KINDS.get(kind, FieldDescriptorProto.TYPE_MESSAGE)
    if kind not in KINDS or kind == "DataType":
        field.type_name = f".{PACKAGE}.{kind}"


@cache
def message_classes() -> dict[str, Any]:
    """The class of each message, by its name."""
    pool = DescriptorPool()
    pool.Add(_file())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


def parse_message(name: str, content: bytes) -> Any:
    """RequestError for bytes that are none: grpcio, left to find out, calls it a fault of the server's."""
    try:
        return message_classes()[name].FromString(content)
    except DecodeError as error:
        raise RequestError(f"the call's {len(content)} bytes are no whole {PACKAGE}.{name}") from error
