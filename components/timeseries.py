"""An InfluxDB of the site's own, which the accounting writes time series to and others read.

Nobody has to think of a password: one for who writes and one for who reads are made here, and the server is told of
them before anybody can reach it. With a claim what it holds outlives its pod; what is lost is written again by the
accounting, from its ledger.
"""

import pulumi

from components import database
from components.accounting import NAME as ACCOUNTING, Series
from components.after import after

NAME = "influxdb"
PORT = 8086
DATABASE = "atlas"
WRITER, READER = "writer", "reader"
CONFIGURATION = "/etc/atlas-sites/influxdb.conf"  # of the image, and so is what comes before the server
DIRECTORY = "/var/lib/influxdb"


class Timeseries(pulumi.ComponentResource):
    """The site's own InfluxDB.

    Attributes:
        series: where the accounting writes, and as whom.
        reader: the Secret with username and password of who may only read.
    """

    series: Series
    reader: str

    def __init__(self, name: str, place: database.Place, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Timeseries", name, None, opts)
        described = database.DatabaseArgs(
            place=place,
            name=NAME,
            command=["/usr/bin/influxd", "run", "-config", CONFIGURATION],
            preparation=["/etc/atlas-sites/prepare", DATABASE, database.SECRETS],
            users={WRITER: "accounting", READER: "reader"},
            port=PORT,
            health="/ping",
            directory=DIRECTORY,
            clients=[ACCOUNTING],
            # So much that all of a site can be written at once, for some thousand series and a year.
            memory="384Mi",
        )
        passwords = database.declare(name, described, pulumi.ResourceOptions(parent=self))
        url = database.address(place.site, NAME, PORT)
        self.series = Series(
            url=url, database=DATABASE, secret=after(passwords[WRITER], database.password(NAME, WRITER))
        )
        self.reader = database.password(NAME, READER)
        self.register_outputs({"url": url, "database": DATABASE, "reader": self.reader})
