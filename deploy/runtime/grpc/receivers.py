"""What the messages of a call are for: one message and one reply, inference, a stream of it. Each is a Receiver."""

from collections import deque
from collections.abc import Callable
from typing import Any

from deploy.runtime.grpc.call import GrpcCall
from deploy.runtime.grpc.messages import message_classes, parse_message
from deploy.runtime.grpc.methods import MethodHandler
from deploy.runtime.grpc.reading import Message
from deploy.runtime.grpc.status import GrpcStatus, status_of
from toolchain.errors import RequestError, ToolchainError

STREAM_WINDOW = 32  # requests of one stream in progress at a time
UNSENT_BYTES = 256 << 10  # of a stream's replies: it takes no more requests until its client has read some
CountStatus = Callable[[GrpcStatus], None]
Infer = Callable[[GrpcCall, Message, Callable[[Any], None]], None]  # see handle_infer


class UnaryReceiver:
    """One message in; `answer` gets it once the client has sent everything."""

    is_streaming = False

    def __init__(self, call: GrpcCall, count: CountStatus) -> None:
        self._call, self._count = call, count
        self._message: Message | None = None

    def on_message(self, message: Message) -> None:
        if self._message is not None:
            message.reservation.release()
            raise RequestError("expected one message in this call, got more")
        self._message = message

    def on_half_close(self) -> None:
        message, self._message = self._message, None
        if message is None:
            self._call.fail(RequestError("expected one message in this call, got none"))
        else:
            self.answer(message)

    def on_sent(self) -> None:
        pass

    def on_end(self, status: GrpcStatus | None) -> None:
        if self._message is not None:
            self._message.reservation.release()
        if status is not None:
            self._count(status)

    def answer(self, message: Message) -> None:
        raise NotImplementedError


class MethodReceiver(UnaryReceiver):
    """A method that answers at once; kind: of its message."""

    def __init__(self, call: GrpcCall, count: CountStatus, kind: str, method: MethodHandler) -> None:
        super().__init__(call, count)
        self._kind, self._method = kind, method

    def answer(self, message: Message) -> None:
        try:
            parsed = parse_message(self._kind, message.unpack(self._call.max_bytes))
            self._call.reply(self._method(parsed, self._call.connection.is_local).SerializeToString())
        except ToolchainError as error:
            self._call.fail(error)
        finally:
            message.reservation.release()


class InferReceiver(UnaryReceiver):
    """ModelInfer."""

    def __init__(self, call: GrpcCall, count: CountStatus, infer: Infer) -> None:
        super().__init__(call, count)
        self._infer = infer

    def answer(self, message: Message) -> None:
        self._infer(self._call, message, self._on_outcome)

    def _on_outcome(self, outcome: Any) -> None:
        if isinstance(outcome, ToolchainError):
            self._call.fail(outcome)
        else:
            self._call.reply(outcome.SerializeToString())


class StreamReceiver:
    """ModelStreamInfer: replies in the order of the requests, several of which are in progress at a time; an error ends
    only its request."""

    is_streaming = True

    def __init__(self, call: GrpcCall, count: CountStatus, infer: Infer) -> None:
        self._call, self._count, self._infer = call, count, infer
        self._replies: deque[list[bytes]] = deque()  # of each request in progress: empty until it is there

    def on_message(self, message: Message) -> None:
        reply: list[bytes] = []
        self._replies.append(reply)
        if len(self._replies) >= STREAM_WINDOW:
            self._call.is_paused = True

        def on_outcome(outcome: Any) -> None:
            reply.append(self._encode(outcome))
            self._send_replies()

        self._infer(self._call, message, on_outcome)

    def _encode(self, outcome: Any) -> bytes:
        kind = message_classes()["ModelStreamInferResponse"]
        if isinstance(outcome, ToolchainError):
            self._count(status_of(outcome))
            message = kind(error_message=str(outcome))
        else:
            self._count(GrpcStatus.OK)
            message = kind(infer_response=outcome)
        content: bytes = message.SerializeToString()
        return content

    def _send_replies(self) -> None:
        while self._replies and self._replies[0]:
            self._call.send(self._replies.popleft()[0])
        self.on_sent()
        self._end_if_done()

    def on_half_close(self) -> None:
        self._end_if_done()

    def on_sent(self) -> None:
        call = self._call
        if call.is_paused and len(self._replies) < STREAM_WINDOW and call.unsent_bytes < UNSENT_BYTES:
            call.resume()

    def _end_if_done(self) -> None:
        if self._call.is_half_closed and not (self._replies or self._call.is_paused):
            self._call.end(GrpcStatus.OK)

    def on_end(self, status: GrpcStatus | None) -> None:
        if status is not None and status is not GrpcStatus.OK:
            self._count(status)
