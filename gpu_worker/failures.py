"""Errors of a render to what the ledger keeps of them."""

import logging

from domain.events import ErrorClass, Failure
from gpu_worker.engines import InvalidRequest, ModelUnavailable, OutOfMemory, PredictionFailed, ProviderUnavailable
from gpu_worker.settings import without_credentials
from services.blobs import BlobMissing, BlobStoreUnavailable

Log = logging.LoggerAdapter[logging.Logger]

MESSAGE_CHARS_MAX = 500
"""An error's sentence in the ledger; libraries append pages to theirs."""


def failure_of(error: BaseException, log: Log) -> Failure:
    """Its class and one sentence for the ledger. The log gets a line, and the stack of what nobody foresaw."""
    match error:
        case ModelUnavailable():
            failure = Failure(error_class=ErrorClass.MODEL_UNAVAILABLE, message=one_line(error))
        case OutOfMemory():
            failure = Failure(error_class=ErrorClass.OUT_OF_MEMORY, message=one_line(error))
        case InvalidRequest():
            failure = Failure(error_class=ErrorClass.INVALID_INPUT, message=one_line(error))
        case BlobStoreUnavailable() | BlobMissing() | ProviderUnavailable():
            failure = Failure(error_class=ErrorClass.TRANSIENT, message=one_line(error))
        case PredictionFailed():
            failure = Failure(error_class=ErrorClass.INTERNAL, message=one_line(error))
        case _:
            failure = Failure(error_class=ErrorClass.INTERNAL, message=f"{type(error).__name__}: {one_line(error)}")
            log.error("unforeseen", exc_info=error)
    log.error("%s: %s", failure.error_class, failure.message)
    return failure


def one_line(error: BaseException) -> str:
    """The first line of an error's text, bounded, without credentials."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_credentials(lines[0])[:MESSAGE_CHARS_MAX]
