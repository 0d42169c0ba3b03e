"""Names and texts inside Spark SQL."""

import pytest

from caspers_lib.spark_sql import quote_name, quote_text


@pytest.mark.parametrize(
    ("parts", "quoted"),
    [
        (("a",), "`a`"),
        (("a", "b"), "`a`.`b`"),
        (("a.b",), "`a.b`"),
        (("a`; DROP TABLE x; --",), "`a``; DROP TABLE x; --`"),
    ],
)
def test_a_name_stays_one_name(parts: tuple[str, ...], quoted: str) -> None:
    assert quote_name(*parts) == quoted


@pytest.mark.spark
def test_hostile_names_and_texts_come_back_from_spark_as_they_are(spark) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    texts = ["it's", 'a "b"', "back\\slash", "\\'; DROP TABLE x; --", "line\nbreak", "é\u2028`"]
    columns = ", ".join(f"{quote_text(t)} AS {quote_name(t)}" for t in texts)
    row = spark.sql(f"SELECT {columns}").first()
    assert row.asDict() == {t: t for t in texts}
