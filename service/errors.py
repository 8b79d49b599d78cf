"""What the service answers when it does not answer. `error_responses.py` gives each its status.

ServiceError
├── BadRequest              what came is no request in HTTP
├── HeadTimeout             the head of a request did not arrive in time
├── AddressTooLong          the address of a request has too many bytes
├── HeadTooLarge            its headers have
├── MalformedBody             the body is not what its Content-Type says
├── Unauthorized            no key, or a wrong one
├── NotAcceptable           none of the formats asked for can be given
├── BodyTimeout             the body did not arrive in time
├── TooLarge                a body, a picture, or a number of images beyond a limit
├── UnsupportedMediaType    a body in a format that is not read here
├── UnsupportedEncoding     a body that is compressed
├── BadImage                a picture that cannot be read
├── WrongShape              images or latents that do not fit the model
├── BadValue                a value that cannot be used, such as a number that is not finite
├── InvalidParameter        a parameter of the query that is unknown, repeated, or has a wrong value
├── NotSupportedByModel             a question that this kind of model cannot answer
├── NoDefaultModel          a request names no model, and there is no default model, or it is not served
├── QueueFull              the queue is full
├── BodyMemoryFull                 too many bodies are being read at once
├── ClientGone              the caller hung up; nobody hears this answer
├── Unavailable             not now: try again
│   ├── Starting            models are still being read
│   ├── NotServing          no model can be served, or not the default one; the reason is told
│   ├── Draining            the service is being stopped
│   ├── OutOfMemory         not even one image fits into the device's memory now
│   ├── DeviceHung          a computation did not end, and was given up
│   └── DeviceLost          the device has failed
├── NeedsRestart            the device has failed, and only a restart can help
├── DeadlineExceeded        the answer would come too late
└── NotFinite               the model gave numbers that are not finite
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from model_store.vae.sentences import counted, shape_text

_SHOWN = re.compile(r"[A-Za-z0-9.+-]{1,40}(/[A-Za-z0-9.+-]{1,80})?")


class ServiceError(Exception):
    """Something keeps the service from answering."""

    index: int | None = None
    """The image or latent of the request that is at fault, counted from 0; None where no single one is."""


@contextmanager
def about_row(index: int) -> Iterator[None]:
    """Errors raised in this block concern the image or latent with this index."""
    try:
        yield
    except ServiceError as error:
        error.index = index
        raise


class BadRequest(ServiceError):
    """What came is no request in HTTP."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"This request cannot be read: {problem}.")


class HeadTimeout(ServiceError):
    """The head of a request did not arrive in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The request's head did not arrive within {limit_s:g} s; send it at once.")


class AddressTooLong(ServiceError):
    """The address of a request has too many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The address has more than {limit:,} bytes; send what is long in the body.")


class HeadTooLarge(ServiceError):
    """The headers of a request have too many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request's head has more than {limit:,} bytes; send fewer or shorter headers.")


class MalformedBody(ServiceError):
    """The body is not what its Content-Type says."""

    def __init__(self, media_type: str, problem: str) -> None:
        super().__init__(f"The body is no {media_type}: {problem}.")


class Unauthorized(ServiceError):
    """No key, or a wrong one."""

    def __init__(self) -> None:
        super().__init__("No valid key; send one as Authorization: Bearer KEY.")


class NotAcceptable(ServiceError):
    """None of the formats asked for can be given."""

    def __init__(self, offered: Iterable[str]) -> None:
        super().__init__(f"None of the requested formats is available here; ask for one of {', '.join(offered)}.")


class BodyTimeout(ServiceError):
    """The body did not arrive in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The body did not arrive within {limit_s:g} s; send it faster or in smaller requests.")


class TooLarge(ServiceError):
    """A body, a picture, or a number of images beyond a limit."""

    def __init__(
        self, what: str, *, size: int | None, limit: int, unit: str, remedy: str = "send less in one request"
    ) -> None:
        found = f"more than {counted(limit, unit)}" if size is None else counted(size, unit)
        super().__init__(f"{what} has {found}, the limit is {limit:,}; {remedy}.")


class UnsupportedMediaType(ServiceError):
    """A body in a format that is not read here."""

    def __init__(self, came: str, offered: Iterable[str], what: str = "Content-Type") -> None:
        shown = f" {came}" if _SHOWN.fullmatch(came) else ""  # else it is long, or made to be read by something else
        found = f"The {what}{shown} is not read here" if came else f"The request has no {what}"
        super().__init__(f"{found}; send one of {', '.join(offered)}.")


class UnsupportedEncoding(ServiceError):
    """A body that is compressed."""

    def __init__(self) -> None:
        super().__init__("A body with a Content-Encoding is not read here; send it as it is.")


class BadImage(ServiceError):
    """A picture that cannot be read."""

    def __init__(self, which: str, problem: str) -> None:
        super().__init__(f"{which} cannot be read: {problem}.")


class WrongShape(ServiceError):
    """Images or latents that do not fit the model."""

    def __init__(self, what: str, *, got: Sequence[int], model: object, expected: Sequence[int], remedy: str) -> None:
        super().__init__(f"{what} {shape_text(got)}, but {model} takes {shape_text(expected)}; {remedy}.")


class BadValue(ServiceError):
    """A value that cannot be used, such as a number that is not finite."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class InvalidParameter(ServiceError):
    """A parameter of the query that is unknown, repeated, or has a wrong value."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"The query parameter {problem}.")


class NotSupportedByModel(ServiceError):
    """A question that this kind of model cannot answer."""

    def __init__(self, model: str, reason: str, remedy: str) -> None:
        super().__init__(f"{model} {reason}; {remedy}.")


class NoDefaultModel(ServiceError):
    """A request names no model, and there is no default model, or it is not served."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class QueueFull(ServiceError):
    """The queue is full."""

    def __init__(self, *, waiting: int, limit: int, retry_after_s: int) -> None:
        super().__init__(
            f"{waiting} of at most {counted(limit, 'images')} are waiting; try again in {retry_after_s} s."
        )
        self.retry_after_s = retry_after_s


class BodyMemoryFull(ServiceError):
    """Too many bodies are being read at once."""

    retry_after_s = 1

    def __init__(self, limit: int) -> None:
        super().__init__(f"The bodies under way have more than {limit:,} bytes together; try again in 1 s.")


class ClientGone(ServiceError):
    """The caller hung up; nobody hears this answer."""

    def __init__(self) -> None:
        super().__init__("The caller hung up before the answer.")


class Unavailable(ServiceError):
    """Not now: try again."""

    retry_after_s = 1


class Starting(Unavailable):
    """Models are still being read."""

    def __init__(self) -> None:
        super().__init__("The models are still being read; try again in a moment.")


class NotServing(Unavailable):
    """No model can be served, or not the default one."""

    retry_after_s = 10

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Draining(Unavailable):
    """The service is being stopped."""

    def __init__(self) -> None:
        super().__init__("The service is being stopped; try again, another one will answer.")


class OutOfMemory(Unavailable):
    """Not even one image fits into the device's memory now."""

    def __init__(self) -> None:
        super().__init__("Not even one image fits into the device's memory now; try again.")


class DeviceHung(Unavailable):
    """A computation did not end, and was given up."""

    def __init__(self) -> None:
        super().__init__("The computation did not end and was given up; try again.")


class DeviceLost(Unavailable):
    """The device has failed."""

    retry_after_s = 10

    def __init__(self) -> None:
        super().__init__("The device that computes has failed; another replica may answer.")


class NeedsRestart(ServiceError):
    """The device has failed, and only a restart can help."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The device that computes failed {seconds:.0f} s ago; restart this process.")


class DeadlineExceeded(ServiceError):
    """The answer would come too late."""

    def __init__(self, limit_s: float, remedy: str) -> None:
        super().__init__(f"The answer was not ready within {limit_s:g} s; try again, or {remedy}.")


class NotFinite(ServiceError):
    """The model gave numbers that are not finite."""

    def __init__(self) -> None:
        super().__init__("The model gave numbers that are not finite for this request; this is its fault, not yours.")
