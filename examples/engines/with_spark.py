"""Statistics of the columns of a Spark data frame, and of every group in it.

    pip install 'streamnorm[spark]'     # and Java 17
    python examples/engines/with_spark.py

On a cluster: the session that your platform gives you, classic or Connect, and streamnorm on the
executors (a cluster library, or `--archives` with a packed environment).
"""

import os
import sys

import numpy as np

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")

from pyspark.sql import SparkSession

import streamnorm as sn
from streamnorm.engines import spark as engine


def main():
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    random = np.random.default_rng(0)
    sites = {"north": random.normal(280, 5, (500, 2)), "south": random.normal(300, 1, (700, 2))}
    rows = [(site, *row.tolist()) for site, data in sites.items() for row in data]
    df = spark.createDataFrame(rows, "site string, air double, sea double").repartition(6)

    for name, moments in engine.compute(df, columns=["air", "sea"]).items():
        print(name, moments)

    by_site = df.groupBy("site").agg(engine.moments("air", exact=True).alias("air"))
    found = {row.site: engine.from_bytes(row.air) for row in by_site.collect()}
    for site in sorted(found):
        print(site, found[site])
    whole = engine.compute(df, columns="air", exact=True)
    both = sn.merge(found.values())
    print(f"all groups together, the same digest: {both.digest() == whole.digest()}")
    spark.stop()


if __name__ == "__main__":
    main()
