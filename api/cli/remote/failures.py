"""The errors of client commands: the whole tree."""


class ClientError(Exception):
    """The server did not do what was requested. `str()` is for the user.

    ClientError
    ├── Unreachable     no answer, or an answer that is not Darkroom's
    ├── NotSignedIn     the token is missing, wrong or revoked
    ├── NotThere        unknown, or owned by another user
    ├── Busy            503: it works again by itself
    ├── Rejected        the request is wrong; the sentence has the path of each bad field
    ├── NoFile          the file to upload cannot be read
    ├── NotWritten      the file of a download cannot be written
    ├── DamagedFile     a download does not have the ledger's hash
    ├── NothingLike     the reused job lacks something that a submission needs (`like.py`)
    └── NoServer        the server's URL or its token is not known
    """

    code = "client_failed"


class Unreachable(ClientError):
    """No Darkroom answers at the URL."""

    code = "unreachable"


class NotSignedIn(ClientError):
    """401: the token is not valid on that server."""

    code = "not_signed_in"


class NotThere(ClientError):
    """404."""

    code = "not_found"


class ServerBusy(ClientError):
    """503; asking again later helps."""

    code = "unavailable"


class Rejected(ClientError):
    """Any other refusal."""

    code = "rejected"


class NoFile(ClientError):
    """The file to upload cannot be read."""

    code = "no_file"


class NotWritten(ClientError):
    """The file of a download cannot be written."""

    code = "not_written"


class DamagedFile(ClientError):
    """The received bytes do not have the ledger's hash."""

    code = "damaged_file"


class NoServer(ClientError):
    """The server's URL or its token is not known."""

    code = "no_server"
