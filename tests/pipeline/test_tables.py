"""Tables of a result, as a Python program reads them."""

import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.pipeline.tables import Table


def test_folders_above_a_table_are_no_columns_and_folders_in_it_are(tmp_path):
    """Prepared tweets are in ``split=train/``; ``output_uri`` may be ``runs/day=1``."""
    root = tmp_path / "day=1/prepared/tweets"
    (root / "split=train").mkdir(parents=True)
    pq.write_table(pa.table({"row_id": [7]}), root / "split=train/part.parquet")
    tweets = Table(str(root), ("split=train/part.parquet",))
    assert tweets.columns == ["row_id", "split"]
    assert tweets.to_arrow().to_pylist() == [{"row_id": 7, "split": "train"}]
    part = Table(str(root / "split=train"), ("part.parquet",))
    assert part.to_arrow().to_pylist() == [{"row_id": 7}]
