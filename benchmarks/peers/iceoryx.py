"""iceoryx2 publish-subscribe of byte slices, without overflow: the publisher retries until the
subscriber has room. Receiving polls: the fastest way that it has. Reads are in place."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

from peers import End, Peer


class Iceoryx2(Peer):
    name = "iceoryx2"
    package = "iceoryx2"
    module = "iceoryx2"
    messages = 30_000
    rounds = 4_000

    def _service(self, link: tuple[str, int, int]) -> Any:
        import iceoryx2

        name, _, items = link
        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        service = (
            node.service_builder(iceoryx2.ServiceName.new(name))
            .publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(items)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
        )
        return node, service

    def sender(self, link: tuple[str, int, int]) -> End:
        import iceoryx2

        node, service = self._service(link)
        publisher = (
            service.publisher_builder()
            .initial_max_slice_len(link[1])
            .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        loan, move = publisher.loan_slice_uninit, ctypes.memmove

        def send(data: bytes) -> None:
            sample = loan(len(data))
            move(sample.payload_ptr, data, len(data))
            sample.assume_init().send()

        def ready(kept: Any = (node, service)) -> None:
            deadline = time.monotonic() + 10
            while not kept[1].dynamic_config.number_of_subscribers:
                if time.monotonic() > deadline:
                    raise TimeoutError("no subscriber came")
            publisher.update_connections()

        return End(send, lambda: None, ready)

    def _receiver(self, link: tuple[str, int, int], view: Callable[[Any], Any]) -> End:
        node, service = self._service(link)
        subscriber = service.subscriber_builder().buffer_size(link[2]).create()
        receive = subscriber.receive

        def take(check: Callable[[Any], None] | None = None, kept: Any = (node, service)) -> Any:
            sample = receive()
            while sample is None:
                sample = receive()
            data = view(sample) if check is None else check(sample.payload().as_memory_view())
            sample.delete()
            return data

        return End(take)

    def receiver(self, link: tuple[str, int, int]) -> End:
        size, copy = link[1], ctypes.string_at
        return self._receiver(link, lambda sample: copy(sample.payload_ptr, size))

    def frame_receiver(self, link: tuple[str, int, int]) -> End:
        return self._receiver(link, lambda sample: None)


PEERS: list[Peer] = [Iceoryx2()]
