"""The one error that a user is meant to read."""


class Refusal(Exception):
    """A request that cannot be carried out.

    The message is one sentence that says where, what is wrong and what to do. The command line prints it and exits
    with 1; everything else that escapes is a defect of ours.
    """
