"""An InfluxDB of the site's own, which the accounting writes time series to and others read.

Nobody has to think of a password: one for who writes and one for who reads are made here, and the server is told of
them before anybody can reach it. With a claim what it holds outlives its pod; what is lost is written again by the
accounting, from its ledger.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class TimeseriesArgs:
    """Where time series are.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: of the databases.
        mib: of the volume.
        claim: whether the volume outlives the pod.
        storage_class: of the claim; None for the cluster's own choice.
        readers: a namespace of others who may ask it, beside the accounting; None for nobody.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    mib: int
    claim: bool
    storage_class: str | None = None
    readers: str | None = None


class Timeseries(pulumi.ComponentResource):
    """The site's own InfluxDB.

    Attributes:
        series: where the accounting writes, and as whom.
        reader: the Secret with username and password of who may only read.
    """

    series: Series
    reader: str

    def __init__(self, name: str, args: TimeseriesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Timeseries", name, None, opts)
        described = database.DatabaseArgs(
            site=args.site,
            namespace=args.namespace,
            priority=args.priority,
            image=args.image,
            name=NAME,
            command=["/usr/bin/influxd", "run", "-config", CONFIGURATION],
            preparation=["/etc/atlas-sites/prepare", DATABASE, database.SECRETS],
            users={WRITER: "accounting", READER: "reader"},
            port=PORT,
            health="/ping",
            directory=DIRECTORY,
            mib=args.mib,
            claim=args.claim,
            storage_class=args.storage_class,
            clients=[ACCOUNTING],
            readers=args.readers,
            # So much that all of a site can be written at once, for some thousand series and a year.
            memory="384Mi",
        )
        passwords = database.declare(name, described, pulumi.ResourceOptions(parent=self))
        url = database.address(args.site, NAME, PORT)
        self.series = Series(
            url=url, database=DATABASE, secret=after(passwords[WRITER], database.password(NAME, WRITER))
        )
        self.reader = database.password(NAME, READER)
        self.register_outputs({"url": url, "database": DATABASE, "reader": self.reader})
