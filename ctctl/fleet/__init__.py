"""Tables of many nodes as one set of Parquet files, and questions to it in SQL."""
