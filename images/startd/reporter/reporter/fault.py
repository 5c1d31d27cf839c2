"""What the pod cannot go on with."""


class Fault(Exception):
    """The site gave the startd something it cannot work with.

    Attributes:
        reason: one word for tables, as in SoftwareMissing.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
