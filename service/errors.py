"""The errors that a client can receive; `http/problems.py` gives each its HTTP status.

ServiceError
├── BadRequest              the bytes are not a request of HTTP/1.1
├── UnknownTransferCoding   the chunks of the body are compressed
├── UnknownExpectation      the client expects something that is not 100-continue
├── HeadTimeout             the head of the request did not arrive in time
├── AddressTooLong          the address of the request has too many bytes
├── HeadTooLarge            the address and the headers together have too many bytes
├── MalformedBody           the body does not have the format that its Content-Type names
├── Unauthorized            the request has no valid key
├── OtherSite               a page of another site sends the request, and the service has no keys
├── NoSuchAddress           the address has characters that no address of the service has
├── MisdirectedRequest      the request is for another host
├── NotAcceptable           none of the requested formats is available
├── BodyTimeout             the body did not arrive in time
├── BodyTooSlow             the body has nearly stopped to arrive
├── TooLarge                a body, a picture, or a number of images is beyond a limit
├── UnsupportedMediaType    the body has a format that the service does not read
├── UnsupportedEncoding     the body is compressed
├── BadImage                a picture cannot be read
├── WrongShape              images or latents do not fit the model
├── WrongLatentSpace        the latents are of another space than the model's
├── SeveralSizes            the images have several sizes, where one answer has room for one size
├── BadValue                a value cannot be used, such as a number that is not finite
├── InvalidParameter        a query parameter is unknown, repeated, or has a wrong value
├── NotSupportedByModel     this kind of model does not support the operation
├── NoDefaultModel          the request names no model, and no default model is served
├── QueueFull               the queue has no room for the images of the request
├── MemoryFull              the requests under way take the memory that this request needs
│   ├── BodyMemoryFull      of the bodies that are being read
│   └── AnswerMemoryFull    of the answers that are being computed and sent
├── ProcessesBusy           all processes for this kind of work are busy
├── LargeImagesWait         too many requests with images that are tiled wait already
├── MemoryExceeded          the request needs more memory than one request may use
├── ClientGone              the client hung up before the answer
├── Unavailable             the service cannot answer now, and may do so later
│   ├── Starting            the models are still being read
│   ├── NotServing          no model, or not the default model, can be served
│   ├── Draining            the service is being stopped
│   ├── ProcessLost         the process that worked on the request has ended
│   ├── OutOfMemory         not even one image fits into the device's memory now
│   ├── OutOfResources      the process has no memory or no file descriptor left
│   ├── DeviceHung          a computation did not end
│   └── DeviceLost          the device has failed
├── NeedsRestart            the device has failed, and only a restart of the process helps
├── DeadlineExceeded        the answer was not ready in time
└── NotFinite               the model's answer has numbers that are not finite
"""

import copyreg
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from model_store.vae.sentences import counted, shape_text

_SHOWN = re.compile(r"[A-Za-z0-9.+-]{1,40}(/[A-Za-z0-9.+-]{1,80})?(, ?[A-Za-z0-9.+-]{1,40}){0,3}")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]{1,80}(:[0-9]{1,5})?")


class ServiceError(Exception):
    """The base of all errors that a client can receive."""

    index: int | None = None
    """The number, from 0, of the image or latent that caused the error; None if no single one did."""

    def __reduce__(self) -> tuple[Any, ...]:
        """How the error travels between processes: with its message, not with what its class made the message of."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]  # missing in types


@contextmanager
def about_row(index: int) -> Iterator[None]:
    """Give the errors that this block raises the index of an image or latent."""
    try:
        yield
    except ServiceError as error:
        error.index = index
        raise


class BadRequest(ServiceError):
    """The bytes are not a request of HTTP/1.1."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"This request cannot be read: {problem}.")


class UnknownTransferCoding(ServiceError):
    """The chunks of the body are compressed, or coded in another way."""

    def __init__(self) -> None:
        super().__init__("The Transfer-Encoding of this request has more than chunked; send chunks that are not coded.")


class UnknownExpectation(ServiceError):
    """The client expects something that is not 100-continue."""

    def __init__(self) -> None:
        super().__init__("The header Expect of this request is not 100-continue; send that value, or leave it out.")


class HeadTimeout(ServiceError):
    """The head of the request did not arrive in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The request's head did not arrive within {limit_s:g} s; send it faster.")


class AddressTooLong(ServiceError):
    """The address of the request has too many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The address has more than {limit:,} bytes; shorten it, or send long values in the body.")


class HeadTooLarge(ServiceError):
    """The address and the headers of the request together have too many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request's head has more than {limit:,} bytes; send fewer or shorter headers.")


class MalformedBody(ServiceError):
    """The body does not have the format that its Content-Type names."""

    def __init__(self, media_type: str, problem: str) -> None:
        super().__init__(f"The body is not valid {media_type}: {problem}.")


class Unauthorized(ServiceError):
    """The request has no valid key."""

    def __init__(self) -> None:
        super().__init__(
            "The request has no valid key; send one in the header Authorization: Bearer KEY, or in the address: "
            "https://user:KEY@host."
        )


class OtherSite(ServiceError):
    """A page of another site sends the request, and the service has no keys."""

    def __init__(self, origin: str) -> None:
        shown = f" ({origin})" if _ORIGIN.fullmatch(origin) else ""  # a long or odd value is not repeated
        super().__init__(
            f"A page of another site{shown} may not use this service; name the page's origin in LATENTD_CORS_ORIGINS, "
            "such as https://example.org. A page that is opened from a file has none: serve it over HTTP."
        )


class NoSuchAddress(ServiceError):
    """The address has characters that no address of the service has."""

    def __init__(self) -> None:
        super().__init__(
            "There is nothing at this address: it has an encoded slash, a control character, or bytes that are not "
            "UTF-8; leave them out."
        )


class MisdirectedRequest(ServiceError):
    """The request is for another host: a page may have made its own name lead to this machine."""

    def __init__(self, host: str) -> None:
        shown = f" {host}" if _SHOWN.fullmatch(host) else ""  # a long or odd value is not repeated
        super().__init__(
            f"The host{shown} is not a name of this service; call it as localhost, or name the host in LATENTD_HOSTS."
        )


class NotAcceptable(ServiceError):
    """None of the requested formats is available."""

    def __init__(self, offered: Iterable[str]) -> None:
        super().__init__(f"None of the requested formats is available; ask for one of {', '.join(offered)}.")


class BodyTimeout(ServiceError):
    """The body did not arrive in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The body did not arrive within {limit_s:g} s; send it faster or in smaller requests.")


class BodyTooSlow(ServiceError):
    """The body has nearly stopped to arrive."""

    def __init__(self, *, least: int, window_s: float) -> None:
        super().__init__(
            f"The body has brought less than {least:,} bytes in {window_s:g} s; send it faster or in smaller requests."
        )


class TooLarge(ServiceError):
    """A body, a picture, or a number of images is beyond a limit."""

    def __init__(
        self, what: str, *, size: int | None, limit: int, unit: str, remedy: str = "send less in one request"
    ) -> None:
        if size is None:
            found = f"more than the limit of {counted(limit, unit)}"
        else:
            found = f"{counted(size, unit)}, the limit is {limit:,}"
        super().__init__(f"{what} has {found}; {remedy}.")


class UnsupportedMediaType(ServiceError):
    """The body has a format that the service does not read."""

    def __init__(self, came: str, offered: Iterable[str], what: str = "Content-Type") -> None:
        shown = f" {came}" if _SHOWN.fullmatch(came) else ""  # a long or odd value is not repeated
        found = f"The {what}{shown} is not supported" if came else f"The request has no {what}"
        super().__init__(f"{found}; send one of {', '.join(offered)}.")


class UnsupportedEncoding(ServiceError):
    """The body is compressed."""

    def __init__(self, came: str) -> None:
        shown = f" {came}" if _SHOWN.fullmatch(came) else ""  # a long or odd value is not repeated
        super().__init__(f"The Content-Encoding{shown} is not supported; send the body as it is, without compression.")


class BadImage(ServiceError):
    """A picture cannot be read."""

    def __init__(self, which: str, problem: str) -> None:
        super().__init__(f"{which} cannot be read: {problem}.")


class WrongShape(ServiceError):
    """Images or latents do not fit the model."""

    def __init__(
        self, what: str, *, got: Sequence[int], model: object, expected: Sequence[int | None] | str, remedy: str
    ) -> None:
        takes = expected if isinstance(expected, str) else shape_text(expected)
        super().__init__(f"{what} {shape_text(got)}, but {model} takes {takes}; {remedy}.")


class WrongLatentSpace(ServiceError):
    """The latents are of another space than the model's."""

    def __init__(
        self,
        space: str,
        latent_shape: Sequence[int],
        model: object,
        own: str,
        own_shape: Sequence[int | None],
        others: Iterable[str],
    ) -> None:
        able = ", ".join(others)
        remedy = f"served models that can: {able}" if able else "no served model can; import one that does"
        super().__init__(
            f"These are {space[:64]} latents ({shape_text(latent_shape)}); {model} decodes {own} "
            f"({shape_text(own_shape)}); {remedy}."
        )


class SeveralSizes(ServiceError):
    """The images of one request have several sizes, where one answer has room for one size."""

    def __init__(self, one: Sequence[int], other: Sequence[int]) -> None:
        super().__init__(
            f"The images have several sizes, {shape_text(one)} and {shape_text(other)} among them; send each size in a "
            "request of its own, or ask encode or reconstruct for json or safetensors."
        )


class BadValue(ServiceError):
    """A value cannot be used, such as a number that is not finite."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class InvalidParameter(ServiceError):
    """A query parameter is unknown, repeated, or has a wrong value."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"The query parameter {problem}.")


class NotSupportedByModel(ServiceError):
    """This kind of model does not support the operation."""

    def __init__(self, model: str, reason: str, remedy: str) -> None:
        super().__init__(f"{model} {reason}; {remedy}.")


class NoDefaultModel(ServiceError):
    """The request names no model, and no default model is served."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class QueueFull(ServiceError):
    """The queue has no room for the images of the request."""

    def __init__(self, *, images: int, own: int, free: int, limit: int, retry_after_s: int) -> None:
        super().__init__(
            f"The queue is full for this client: it has {counted(own, 'images')} there and asks for {images} more, but "
            f"may have at most as many as places are free, {free} of {limit}; try again in {retry_after_s} s."
        )
        self.retry_after_s = retry_after_s


class MemoryFull(ServiceError):
    """The requests under way take the memory that this request needs."""

    retry_after_s = 1
    what = "request"

    def __init__(self, *, needed: int, own: int, free: int, limit: int) -> None:
        super().__init__(
            f"This {self.what} needs at least {needed:,} bytes of memory, and other requests of this client hold "
            f"{own:,}; a client may hold at most as many as are free without its request, {free:,} of {limit:,}. Try "
            f"again in {self.retry_after_s} s, or send fewer requests at once."
        )


class BodyMemoryFull(MemoryFull):
    """The bodies that are being read take the memory for bodies."""

    what = "body"


class AnswerMemoryFull(MemoryFull):
    """The answers that are being computed and sent take the memory for answers."""

    what = "answer"


class ProcessesBusy(ServiceError):
    """All processes for this kind of work are busy."""

    retry_after_s = 1

    def __init__(self, task: str, count: int) -> None:
        super().__init__(f"All of the {count} processes that {task} are busy; try again in 1 s.")


class LargeImagesWait(ServiceError):
    """Too many requests with images that are computed in tiles wait for their turn already."""

    retry_after_s = 10

    def __init__(self) -> None:
        super().__init__(
            f"One image is computed in tiles at a time, and too many wait for it; try again in {self.retry_after_s} s."
        )


class MemoryExceeded(ServiceError):
    """The request needs more memory than one request may use."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request needs more than {limit:,} bytes of memory; send fewer or smaller images.")


class ClientGone(ServiceError):
    """The client hung up before the answer. Only the log shows this error."""

    def __init__(self) -> None:
        super().__init__("The client hung up before the answer.")


class Unavailable(ServiceError):
    """The service cannot answer now, and may do so later."""

    retry_after_s = 1


class TooManyConnections(Unavailable):
    """The process has as many open files as the system allows it."""

    def __init__(self) -> None:
        super().__init__("The service has as many connections as it can have; try again in 1 s, or raise `ulimit -n`.")


class Starting(Unavailable):
    """The models are still being read."""

    def __init__(self) -> None:
        super().__init__("The models are still being read; try again in a moment.")


class NotServing(Unavailable):
    """No model can be served, or the default model cannot."""

    retry_after_s = 10

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Draining(Unavailable):
    """The service is being stopped."""

    def __init__(self) -> None:
        super().__init__("This replica is being stopped; try again, another replica may answer.")


class ProcessLost(Unavailable):
    """The process that worked on the request has ended.

    The kernel may have ended it when memory ran out, so that the next attempt can succeed: that is not the client's
    fault, as a 4xx would say. An image that makes a library crash gets the same answer again, and so does a request
    for which a library that does not raise MemoryError needs too much memory.
    """

    def __init__(self) -> None:
        super().__init__(
            "The process that worked on this request has ended, perhaps because memory ran out; try again, or with "
            "fewer images."
        )


class OutOfMemory(Unavailable):
    """The device's memory has no room for a single image now."""

    def __init__(self) -> None:
        super().__init__("The device has no memory for even one image now; try again.")


class OutOfResources(Unavailable):
    """The process has no memory or no file descriptor left."""

    def __init__(self) -> None:
        super().__init__("The service has no memory or no file descriptor left for this request; try again.")


class DeviceHung(Unavailable):
    """A computation did not end."""

    def __init__(self) -> None:
        super().__init__("The computation did not end, and the service stopped waiting for it; try again.")


class DeviceLost(Unavailable):
    """The device has failed."""

    retry_after_s = 10

    def __init__(self) -> None:
        super().__init__("The device that computes has failed; try again, another replica may answer.")


class NeedsRestart(ServiceError):
    """The device has failed, and only a restart of the process helps."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The device that computes failed {seconds:.0f} s ago; restart this process.")


class DeadlineExceeded(ServiceError):
    """The answer was not ready in time."""

    def __init__(self, limit_s: float, remedy: str) -> None:
        super().__init__(f"The answer was not ready within {limit_s:g} s; try again, or {remedy}.")


class NotFinite(ServiceError):
    """The model's answer has numbers that are not finite."""

    def __init__(self) -> None:
        super().__init__(
            "The model's answer to this request has numbers that are not finite. This is a fault of the model."
        )
