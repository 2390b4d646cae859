"""What a call keeps of its client while it lasts."""

from deploy.runtime.grpc.call import GrpcCall
from deploy.runtime.grpc.receivers import UnaryReceiver
from deploy.runtime.scheduling.memory_budget import MemoryBudget


class SilentConnection:
    """A CallConnection without a socket."""

    client = None
    send_window = initial_window = max_frame = 1 << 16
    is_local = is_write_paused = False

    def write(self, content: bytes) -> None:
        raise AssertionError(content)

    def finish(self, call: GrpcCall) -> None:
        raise AssertionError(call)


def test_of_a_head_only_what_traces_need_is_held_while_a_call_lasts() -> None:
    """A hundred calls a connection, hundreds of connections: 8 kB of each head would be most of a small container."""
    trace = {b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    head = trace | {b":path": b"/x" * 1000, b"authorization": b"x" * 4000, b"tracestate": b"x" * 4000}
    call = GrpcCall(SilentConnection(), 1, head, 0.0)
    call.begin(UnaryReceiver(call, lambda _status: None), 1, MemoryBudget())
    assert call.fields == trace
    assert call.path == b""
