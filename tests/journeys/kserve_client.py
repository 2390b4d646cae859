"""KServe's Python client against a server: a program for the environment of requirements/peers/kserve.txt.

Arguments: REST's address, gRPC's address. Asserts, and prints how much was asked. The client has no calls for metadata:
for gRPC its generated stub has them, for REST there is nothing to ask with.
"""

import asyncio
import sys
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from kserve.protocol.infer_type import RequestedOutput

REST, GRPC = sys.argv[1:]
SHAPE = [2, 8, 8, 3]


def asked(binary: bool, model: str = "null", binary_out: bool | None = None, rows: int = 2) -> InferRequest:
    feed = InferInput("image", [rows, *SHAPE[1:]], "UINT8")
    feed.set_data_from_numpy(np.full((rows, *SHAPE[1:]), 9, np.uint8), binary_data=binary)
    outputs = None if binary_out is None else [RequestedOutput("logits", {"binary_data": binary_out})]
    return InferRequest(model, [feed], request_id="r7", request_outputs=outputs)


def check(reply: Any) -> None:
    assert (reply.id, reply.model_name) == ("r7", "null"), reply
    (output,) = reply.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("logits", "FP32", [2, 4]), output
    assert output.as_numpy().tolist() == [[0.0] * 4] * 2, output


async def over_rest() -> int:
    answers = 0
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        assert await client.is_server_live(REST) is True
        assert await client.is_server_ready(REST) is True
        assert await client.is_model_ready(REST, "null") is True
        assert await client.is_model_ready(REST, "other") is False
        for binary in (True, False):
            for binary_out in (None, True, False):
                check(await client.infer(REST, asked(binary, binary_out=binary_out), model_name="null"))
                answers += 1
        for request, model, words in ((asked(True, "other"), "other", "404"), (asked(False, rows=33), "null", "33")):
            try:
                await client.infer(REST, request, model_name=model)
            except httpx.HTTPStatusError as error:
                assert words in str(error), error
            else:
                raise AssertionError(f"not refused: {model}")
    return answers


async def over_grpc() -> int:
    answers = 0
    async with InferenceGRPCClient(GRPC, retries=0) as client:
        assert await client.is_server_live() is True
        assert await client.is_server_ready() is True
        assert await client.is_model_ready("null") is True
        for binary in (True, False):
            check(await client.infer(asked(binary)))
            answers += 1
        try:
            await client.infer(asked(True, "other"))
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("not refused")
    return answers


async def metadata() -> None:
    async with grpc.aio.insecure_channel(GRPC) as channel:
        stub = GRPCInferenceServiceStub(channel)
        server = await stub.ServerMetadata(messages.ServerMetadataRequest())
        assert server.name and server.version, server
        model = await stub.ModelMetadata(messages.ModelMetadataRequest(name="null"))
        (given,), (output,) = model.inputs, model.outputs
        assert (given.name, given.datatype, list(given.shape)) == ("image", "UINT8", [-1, 8, 8, 3]), model
        assert (output.name, output.datatype, list(output.shape)) == ("logits", "FP32", [-1, 4]), model


async def main() -> None:
    found = await over_rest(), await over_grpc()
    await metadata()
    print("answered: {} by REST, {} by gRPC".format(*found))


if __name__ == "__main__":
    asyncio.run(main())
