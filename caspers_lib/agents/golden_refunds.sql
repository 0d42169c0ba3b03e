-- Delivered orders with their facts and the refunds that are right, for DuckDB. All is counted anew
-- in whole seconds, hundredths of a minute and exact decimals; nothing is shared with the code that
-- is measured but the policy's figures, which are bound.
WITH deliveries AS MATERIALIZED (
  SELECT order_id,
    min(location_id::INTEGER) FILTER (event_type_id = $closing) AS location_id,
    min(ts_seconds::BIGINT) FILTER (event_type_id = $closing) AS delivered,
    delivered // 3600 AS hour,
    delivered - min(ts_seconds::BIGINT) FILTER (event_type_id = $opening) AS seconds,
    -- half up; more than a day is not believed
    CASE WHEN seconds BETWEEN 0 AND 86400 THEN (200 * seconds + 60) // 120 END AS took,
    arg_min(customer_addr, ts_seconds) FILTER (event_type_id = $opening) AS address,
    arg_min(items_json, ts_seconds) FILTER (event_type_id = $opening) AS items
  FROM read_parquet($dataset, hive_partitioning = false)
  WHERE event_type_id IN ($opening, $closing)
  GROUP BY order_id HAVING delivered IS NOT NULL
), chosen AS MATERIALIZED (
  SELECT * FROM deliveries WHERE order_id IN (SELECT unnest($also::VARCHAR[]))
  UNION
  (SELECT * FROM deliveries ORDER BY md5('42:golden:' || order_id), order_id LIMIT $orders)
), hours AS MATERIALIZED (
  SELECT location_id, hour, unnest(range(hour - 24, hour)) AS past
  FROM (SELECT DISTINCT location_id, hour FROM chosen)
), history AS (
  SELECT hours.location_id, hours.hour, list(before.took ORDER BY before.took) AS took
  FROM hours
  JOIN deliveries AS before
    ON before.location_id = hours.location_id AND before.hour = hours.past
  WHERE before.took IS NOT NULL
  GROUP BY hours.location_id, hours.hour
), usual AS MATERIALIZED (
  SELECT location_id, hour, len(took) AS history_orders,
    -- linearly interpolated, rounded half up, without fractions
    [(took[(len(took) - 1) * percent // 100 + 1] * (100 - (len(took) - 1) * percent % 100)
      + took[least((len(took) - 1) * percent // 100 + 2, len(took))]
        * ((len(took) - 1) * percent % 100)
      + 50) // 100 FOR percent IN [75, 99]] AS percentiles
  FROM history
), contents AS (
  SELECT order_id, trim(split_part(address, ',', 1)) AS street,
    from_json(items, '[{"name": "VARCHAR", "price": "DECIMAL(12,2)", "qty": "BIGINT"}]') AS read,
    -- one line that no order can have, and none of them counts
    CASE WHEN list_bool_and([coalesce(item.price >= 0 AND item.qty >= 1, false) FOR item IN read])
      THEN read END AS lines,
    list_sum([line.price * line.qty FOR line IN lines])::DECIMAL(18, 2) AS total
  FROM chosen WHERE took IS NOT NULL
), facts AS (
  SELECT chosen.*, street, total, coalesce(lines, []) AS lines, percentiles[1] AS p75,
    percentiles[2] AS p99, coalesce(history_orders, 0) AS history_orders
  FROM chosen LEFT JOIN usual USING (location_id, hour) LEFT JOIN contents USING (order_id)
), judged AS (
  SELECT *, CASE
      WHEN history_orders < $min_orders::BIGINT OR took <= p75 THEN 0
      WHEN took >= $full_factor::DECIMAL(18, 6) * p99 THEN 1
      WHEN took > p99 THEN $very_late_share::DECIMAL(14, 12)
      ELSE $late_share::DECIMAL(14, 12)
    END AS share, round(total * share, 2)::DECIMAL(18, 2) AS refund
  FROM facts
)
SELECT order_id,
  CASE WHEN took IS NULL OR total IS NULL THEN 'something unknown'
    WHEN p75 IS NULL THEN 'without a history' ELSE 'with a history' END AS kind,
  {'location_id': location_id, 'delivered': true, 'total_minutes': took * 0.01,
    'order_total': total, 'history_orders': history_orders, 'p75': p75 * 0.01,
    'p99': p99 * 0.01} AS facts,
  [{'item_name': line.name, 'price': line.price} FOR line IN lines] AS lines, street,
  CASE WHEN kind = 'something unknown' THEN 'error'
    WHEN refund = 0 THEN 'none' WHEN refund = total THEN 'full' ELSE 'partial' END AS decision,
  CASE WHEN decision <> 'error' THEN refund END AS usd
FROM judged ORDER BY delivered, order_id
