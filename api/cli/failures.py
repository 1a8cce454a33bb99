"""What can go wrong when the command line asks a server: the whole tree."""


class ClientError(Exception):
    """The server did not do what was asked. `str()` is for the person at the keyboard.

    ClientError
    ├── Unreachable     no answer, or an answer of something that is not Darkroom
    ├── NotSignedIn     the token is missing, wrong or revoked
    ├── NotThere        unknown, or somebody else's
    ├── Busy            503: it works again by itself
    ├── Rejected        the request is wrong; the sentence has the path of each bad field
    ├── NoFile          the file to upload cannot be read
    ├── DamagedFile     a download does not have the hash that the ledger has
    ├── NothingLike     a job is taken over that lacks what a submission needs (`like.py`)
    └── NoServer        nothing says where the server is, or what its token is
    """

    code = "client_failed"


class Unreachable(ClientError):
    """No Darkroom answers under the URL."""

    code = "unreachable"


class NotSignedIn(ClientError):
    """401: the token is not one of that server."""

    code = "not_signed_in"


class NotThere(ClientError):
    """404."""

    code = "not_found"


class Busy(ClientError):
    """503; asking again later helps."""

    code = "unavailable"


class Rejected(ClientError):
    """Any other refusal."""

    code = "rejected"


class NoFile(ClientError):
    """The file to upload cannot be read."""

    code = "no_file"


class DamagedFile(ClientError):
    """The bytes that came are not those of the ledger's hash."""

    code = "damaged_file"


class NoServer(ClientError):
    """Nothing says where the server is, or what its token is."""

    code = "no_server"
