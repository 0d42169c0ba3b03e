CREATE MATERIALIZED VIEW `caspersdev`.`lakeflow`.`silver_order_lifecycle` (
  `order_id` STRING COMMENT 'the order, with -L<n> in loop n',
  `location_id` INT COMMENT 'where it was ordered',
  `order_day` DATE COMMENT 'UTC day of order_created; null until then',
  `order_created_ts` TIMESTAMP_LTZ COMMENT 'event time of the first order_created',
  `gk_started_ts` TIMESTAMP_LTZ COMMENT 'event time of the first gk_started',
  `gk_finished_ts` TIMESTAMP_LTZ COMMENT 'event time of the first gk_finished',
  `gk_ready_ts` TIMESTAMP_LTZ COMMENT 'event time of the first gk_ready',
  `driver_arrived_ts` TIMESTAMP_LTZ COMMENT 'event time of the first driver_arrived',
  `driver_picked_up_ts` TIMESTAMP_LTZ COMMENT 'event time of the first driver_picked_up',
  `driver_ping_ts` TIMESTAMP_LTZ COMMENT 'event time of the first driver_ping',
  `delivered_ts` TIMESTAMP_LTZ COMMENT 'event time of the first delivered',
  `prep_minutes` DECIMAL(12,2) COMMENT 'minutes from the order to ready food',
  `wait_minutes` DECIMAL(12,2) COMMENT 'minutes from ready food to its pick-up',
  `drive_minutes` DECIMAL(12,2) COMMENT 'minutes from pick-up to delivery',
  `total_minutes` DECIMAL(12,2) COMMENT 'minutes from the order to delivery',
  `status` STRING COMMENT 'the furthest event type that has happened'
)
PARTITIONED BY (`order_day`)
COMMENT 'One row per order: when what happened first, and how long it took'
TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')
AS SELECT
  order_id,
  `location_id` AS `location_id`,
  date_from_unix_date(CAST(floor(unix_seconds(`order_created_ts`) / 86400) AS INT)) AS `order_day`,
  `order_created_ts` AS `order_created_ts`,
  `gk_started_ts` AS `gk_started_ts`,
  `gk_finished_ts` AS `gk_finished_ts`,
  `gk_ready_ts` AS `gk_ready_ts`,
  `driver_arrived_ts` AS `driver_arrived_ts`,
  `driver_picked_up_ts` AS `driver_picked_up_ts`,
  `driver_ping_ts` AS `driver_ping_ts`,
  `delivered_ts` AS `delivered_ts`,
  CAST(round(CAST(unix_millis(`gk_ready_ts`) - unix_millis(`order_created_ts`) AS DECIMAL(15,0)) / 60000, 2) AS DECIMAL(12,2)) AS `prep_minutes`,
  CAST(round(CAST(unix_millis(`driver_picked_up_ts`) - unix_millis(`gk_ready_ts`) AS DECIMAL(15,0)) / 60000, 2) AS DECIMAL(12,2)) AS `wait_minutes`,
  CAST(round(CAST(unix_millis(`delivered_ts`) - unix_millis(`driver_picked_up_ts`) AS DECIMAL(15,0)) / 60000, 2) AS DECIMAL(12,2)) AS `drive_minutes`,
  CAST(round(CAST(unix_millis(`delivered_ts`) - unix_millis(`order_created_ts`) AS DECIMAL(15,0)) / 60000, 2) AS DECIMAL(12,2)) AS `total_minutes`,
  CASE WHEN `delivered_ts` IS NOT NULL THEN 'delivered' WHEN `driver_ping_ts` IS NOT NULL THEN 'driver_ping' WHEN `driver_picked_up_ts` IS NOT NULL THEN 'driver_picked_up' WHEN `driver_arrived_ts` IS NOT NULL THEN 'driver_arrived' WHEN `gk_ready_ts` IS NOT NULL THEN 'gk_ready' WHEN `gk_finished_ts` IS NOT NULL THEN 'gk_finished' WHEN `gk_started_ts` IS NOT NULL THEN 'gk_started' WHEN `order_created_ts` IS NOT NULL THEN 'order_created' END AS `status`
FROM (
  SELECT
    order_id,
    min(location_id) AS location_id,
    min(CASE WHEN event_type = 'order_created' THEN event_ts END) AS `order_created_ts`,
    min(CASE WHEN event_type = 'gk_started' THEN event_ts END) AS `gk_started_ts`,
    min(CASE WHEN event_type = 'gk_finished' THEN event_ts END) AS `gk_finished_ts`,
    min(CASE WHEN event_type = 'gk_ready' THEN event_ts END) AS `gk_ready_ts`,
    min(CASE WHEN event_type = 'driver_arrived' THEN event_ts END) AS `driver_arrived_ts`,
    min(CASE WHEN event_type = 'driver_picked_up' THEN event_ts END) AS `driver_picked_up_ts`,
    min(CASE WHEN event_type = 'driver_ping' THEN event_ts END) AS `driver_ping_ts`,
    min(CASE WHEN event_type = 'delivered' THEN event_ts END) AS `delivered_ts`
  FROM (
    SELECT *, CASE WHEN regexp_like(ts, '^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]([.][0-9][0-9]?[0-9]?[0-9]?[0-9]?[0-9]?)?$') AND substr(ts, -1) BETWEEN '0' AND '9' AND ts >= '1900' AND ts < '2262' THEN try_cast(concat(ts, 'Z') AS TIMESTAMP_LTZ) END AS event_ts
    FROM `caspersdev`.`lakeflow`.`all_events`
    WHERE _corrupt_record IS NULL AND forall(array(from_json(body, 'customer_lat DOUBLE, customer_lon DOUBLE, customer_addr STRING, items ARRAY<STRUCT<id: INT, menu_id: INT, category_id: INT, brand_id: INT, name: STRING, price: DECIMAL(12,2), qty: INT>>, route_points ARRAY<ARRAY<DOUBLE>>, progress_pct DOUBLE, loc_lat DOUBLE, loc_lon DOUBLE, delivered_lat DOUBLE, delivered_lon DOUBLE, _unreadable STRING', map('mode', 'PERMISSIVE', 'columnNameOfCorruptRecord', '_unreadable'))), parsed -> coalesce(_rescued_data IS NULL OR json_object_keys(_rescued_data) IS NOT NULL AND (json_array_length(concat('[', _rescued_data, ']')) = 1 AND json_array_length(concat('[', _rescued_data, ',0]')) = 2), false) AND coalesce(NOT coalesce(arrays_overlap(json_object_keys(_rescued_data), array('event_id', 'event_type', 'ts', 'location_id', 'order_id', 'sequence', 'body')), false), false) AND coalesce(event_id <> '', false) AND coalesce(event_type IN ('order_created', 'gk_started', 'gk_finished', 'gk_ready', 'driver_arrived', 'driver_picked_up', 'driver_ping', 'delivered'), false) AND coalesce(CASE WHEN regexp_like(ts, '^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]([.][0-9][0-9]?[0-9]?[0-9]?[0-9]?[0-9]?)?$') AND substr(ts, -1) BETWEEN '0' AND '9' AND ts >= '1900' AND ts < '2262' THEN try_cast(concat(ts, 'Z') AS TIMESTAMP_LTZ) END IS NOT NULL, false) AND coalesce(order_id <> '', false) AND coalesce(location_id IS NOT NULL, false) AND coalesce(sequence >= 0, false) AND coalesce((json_array_length(concat('[', body, ']')) = 1 AND json_array_length(concat('[', body, ',0]')) = 2) AND forall(array(parsed), p -> p IS NOT NULL AND p._unreadable IS NULL AND coalesce(abs(p.customer_lat) < double('Infinity'), true) AND coalesce(abs(p.customer_lon) < double('Infinity'), true) AND coalesce(forall(p.route_points, x2 -> coalesce(forall(x2, x1 -> coalesce(abs(x1) < double('Infinity'), true)), true)), true) AND coalesce(abs(p.progress_pct) < double('Infinity'), true) AND coalesce(abs(p.loc_lat) < double('Infinity'), true) AND coalesce(abs(p.loc_lon) < double('Infinity'), true) AND coalesce(abs(p.delivered_lat) < double('Infinity'), true) AND coalesce(abs(p.delivered_lon) < double('Infinity'), true)), false) AND coalesce(NOT (event_type <=> 'order_created') OR size(parsed.items) > 0, false) AND coalesce(NOT (event_type <=> 'order_created') OR forall(parsed.items, i -> coalesce(i.qty >= 1, false)), false) AND coalesce(NOT (event_type <=> 'order_created') OR forall(parsed.items, i -> coalesce(i.price >= 0, false)), false) AND coalesce(NOT (event_type <=> 'order_created') OR coalesce(aggregate(parsed.items, CAST(0 AS DECIMAL(38,2)), (total, i) -> CAST(total + i.price * i.qty AS DECIMAL(38,2))) < 10000000000, true), false))
  )
  GROUP BY order_id
);

CREATE MATERIALIZED VIEW `caspersdev`.`lakeflow`.`gold_order_header` (
  `order_id` STRING COMMENT 'the order, with -L<n> in loop n',
  `location_id` INT COMMENT 'the kitchen\'s location',
  `order_day` DATE COMMENT 'UTC day of order_created',
  `order_revenue` DECIMAL(22,2) COMMENT 'USD',
  `total_qty` BIGINT COMMENT 'units',
  `total_items` BIGINT COMMENT 'lines',
  `brands_in_order` ARRAY<INT> COMMENT 'distinct brand ids, sorted'
)
PARTITIONED BY (`order_day`)
COMMENT 'One row per order'
TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')
AS SELECT
  CAST(order_id AS STRING) AS `order_id`,
  CAST(min(location_id) AS INT) AS `location_id`,
  CAST(min(order_day) AS DATE) AS `order_day`,
  CAST(sum(extended_price) AS DECIMAL(22,2)) AS `order_revenue`,
  CAST(sum(qty) AS BIGINT) AS `total_qty`,
  CAST(count(1) AS BIGINT) AS `total_items`,
  CAST(sort_array(collect_set(brand_id)) AS ARRAY<INT>) AS `brands_in_order`
FROM `caspersdev`.`lakeflow`.`silver_order_items`
GROUP BY ALL;

CREATE MATERIALIZED VIEW `caspersdev`.`lakeflow`.`gold_item_sales_day` (
  `item_id` INT COMMENT 'the dish',
  `menu_id` INT COMMENT 'the menu it is on',
  `category_id` INT COMMENT 'the category it is in',
  `brand_id` INT COMMENT 'the brand',
  `day` DATE COMMENT 'UTC day of the order',
  `units_sold` BIGINT COMMENT 'units',
  `gross_revenue` DECIMAL(22,2) COMMENT 'USD'
)
PARTITIONED BY (`day`)
COMMENT 'One row per dish and UTC day'
AS SELECT
  CAST(item_id AS INT) AS `item_id`,
  CAST(menu_id AS INT) AS `menu_id`,
  CAST(category_id AS INT) AS `category_id`,
  CAST(brand_id AS INT) AS `brand_id`,
  CAST(order_day AS DATE) AS `day`,
  CAST(sum(qty) AS BIGINT) AS `units_sold`,
  CAST(sum(extended_price) AS DECIMAL(22,2)) AS `gross_revenue`
FROM `caspersdev`.`lakeflow`.`silver_order_items`
GROUP BY ALL;

CREATE MATERIALIZED VIEW `caspersdev`.`lakeflow`.`gold_brand_sales_day` (
  `brand_id` INT COMMENT 'the brand',
  `day` DATE COMMENT 'UTC day of the order',
  `orders` BIGINT COMMENT 'distinct orders, exact',
  `items_sold` BIGINT COMMENT 'units',
  `brand_revenue` DECIMAL(22,2) COMMENT 'USD'
)
PARTITIONED BY (`day`)
COMMENT 'One row per brand and UTC day'
AS SELECT
  CAST(brand_id AS INT) AS `brand_id`,
  CAST(order_day AS DATE) AS `day`,
  CAST(count(DISTINCT order_id) AS BIGINT) AS `orders`,
  CAST(sum(qty) AS BIGINT) AS `items_sold`,
  CAST(sum(extended_price) AS DECIMAL(22,2)) AS `brand_revenue`
FROM `caspersdev`.`lakeflow`.`silver_order_items`
GROUP BY ALL;

CREATE MATERIALIZED VIEW `caspersdev`.`lakeflow`.`gold_location_sales_hourly` (
  `location_id` INT COMMENT 'the kitchen\'s location',
  `hour_ts` TIMESTAMP_LTZ COMMENT 'start of the hour',
  `orders` BIGINT COMMENT 'distinct orders, exact',
  `revenue` DECIMAL(22,2) COMMENT 'USD'
)
COMMENT 'One row per location and UTC hour'
AS SELECT
  CAST(location_id AS INT) AS `location_id`,
  CAST(timestamp_seconds(unix_seconds(order_ts) - pmod(unix_seconds(order_ts), 3600)) AS TIMESTAMP_LTZ) AS `hour_ts`,
  CAST(count(DISTINCT order_id) AS BIGINT) AS `orders`,
  CAST(sum(extended_price) AS DECIMAL(22,2)) AS `revenue`
FROM `caspersdev`.`lakeflow`.`silver_order_items`
GROUP BY ALL;

CREATE MATERIALIZED VIEW `caspersdev`.`lakeflow`.`gold_delivery_percentiles_hourly` (
  `location_id` INT COMMENT 'the kitchen\'s location',
  `hour_ts` TIMESTAMP_LTZ COMMENT 'start of the hour',
  `deliveries` BIGINT COMMENT 'delivered orders',
  `p50_minutes` DECIMAL(12,2) COMMENT 'minutes that 50 % of these orders took at most, interpolated',
  `p75_minutes` DECIMAL(12,2) COMMENT 'minutes that 75 % of these orders took at most, interpolated',
  `p99_minutes` DECIMAL(12,2) COMMENT 'minutes that 99 % of these orders took at most, interpolated'
)
COMMENT 'How long delivery took, one row per location and UTC hour of the order'
AS SELECT
  CAST(location_id AS INT) AS `location_id`,
  CAST(timestamp_seconds(unix_seconds(order_created_ts) - pmod(unix_seconds(order_created_ts), 3600)) AS TIMESTAMP_LTZ) AS `hour_ts`,
  CAST(count(total_minutes) AS BIGINT) AS `deliveries`,
  CAST(round(percentile(total_minutes, 0.5), 4) AS DECIMAL(12,2)) AS `p50_minutes`,
  CAST(round(percentile(total_minutes, 0.75), 4) AS DECIMAL(12,2)) AS `p75_minutes`,
  CAST(round(percentile(total_minutes, 0.99), 4) AS DECIMAL(12,2)) AS `p99_minutes`
FROM `caspersdev`.`lakeflow`.`silver_order_lifecycle`
WHERE order_day IS NOT NULL
GROUP BY ALL;

CREATE MATERIALIZED VIEW `caspersdev`.`lakeflow`.`gold_kitchen_funnel_day` (
  `location_id` INT COMMENT 'the kitchen\'s location',
  `day` DATE COMMENT 'UTC day of the order',
  `order_created_orders` BIGINT COMMENT 'orders that have had order_created',
  `gk_started_orders` BIGINT COMMENT 'orders that have had gk_started',
  `gk_finished_orders` BIGINT COMMENT 'orders that have had gk_finished',
  `gk_ready_orders` BIGINT COMMENT 'orders that have had gk_ready',
  `driver_arrived_orders` BIGINT COMMENT 'orders that have had driver_arrived',
  `driver_picked_up_orders` BIGINT COMMENT 'orders that have had driver_picked_up',
  `driver_ping_orders` BIGINT COMMENT 'orders that have had driver_ping',
  `delivered_orders` BIGINT COMMENT 'orders that have had delivered'
)
PARTITIONED BY (`day`)
COMMENT 'How far the orders came, one row per location and UTC day of the order'
AS SELECT
  CAST(location_id AS INT) AS `location_id`,
  CAST(order_day AS DATE) AS `day`,
  CAST(count(order_created_ts) AS BIGINT) AS `order_created_orders`,
  CAST(count(gk_started_ts) AS BIGINT) AS `gk_started_orders`,
  CAST(count(gk_finished_ts) AS BIGINT) AS `gk_finished_orders`,
  CAST(count(gk_ready_ts) AS BIGINT) AS `gk_ready_orders`,
  CAST(count(driver_arrived_ts) AS BIGINT) AS `driver_arrived_orders`,
  CAST(count(driver_picked_up_ts) AS BIGINT) AS `driver_picked_up_orders`,
  CAST(count(driver_ping_ts) AS BIGINT) AS `driver_ping_orders`,
  CAST(count(delivered_ts) AS BIGINT) AS `delivered_orders`
FROM `caspersdev`.`lakeflow`.`silver_order_lifecycle`
WHERE order_day IS NOT NULL
GROUP BY ALL;

CREATE MATERIALIZED VIEW `caspersdev`.`lakeflow`.`gold_late_share_day` (
  `location_id` INT COMMENT 'the kitchen\'s location',
  `day` DATE COMMENT 'UTC day of the order',
  `delivered_orders` BIGINT COMMENT 'delivered orders',
  `late_orders` BIGINT COMMENT 'delivered in more than 60 minutes',
  `late_share` DECIMAL(5,4) COMMENT 'late orders among the delivered ones, 0 to 1; null where none is delivered'
)
PARTITIONED BY (`day`)
COMMENT 'Orders that took more than 60 minutes, one row per location and UTC day'
AS SELECT
  CAST(location_id AS INT) AS `location_id`,
  CAST(order_day AS DATE) AS `day`,
  CAST(count(total_minutes) AS BIGINT) AS `delivered_orders`,
  CAST(count_if(total_minutes > 60) AS BIGINT) AS `late_orders`,
  CAST(try_divide(count_if(total_minutes > 60), count(total_minutes)) AS DECIMAL(5,4)) AS `late_share`
FROM `caspersdev`.`lakeflow`.`silver_order_lifecycle`
WHERE order_day IS NOT NULL
GROUP BY ALL;
