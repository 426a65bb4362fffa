-- Top talkers: who opened the most connections, over all nodes. Each is counted where it was opened (OUT), and
-- where it came in (IN), by itself: what was opened outside has no OUT. Bytes only where the datapath counts them.
WITH per_node AS (
    SELECT t.cluster, t.node, t.family, t.src_hi, t.src_lo, t.direction, COUNT(*) AS entries,
           SUM(CASE WHEN t.expired = TRUE THEN 1 ELSE 0 END) AS expired,
           SUM(COALESCE(t.packets, t.tx_packets)) AS packets,
           SUM(COALESCE(t.bytes, t.tx_bytes)) AS bytes, SUM(t.rx_bytes) AS rx_bytes
    FROM ct_latest t
    WHERE t.direction <> 'SVC' AND t.related = FALSE
    GROUP BY t.cluster, t.node, t.family, t.src_hi, t.src_lo, t.direction
),
-- The order is by numbers; texts and destinations are read of the first rows alone.
top AS (
    SELECT n.cluster, n.family, n.src_hi, n.src_lo, n.direction, SUM(n.entries) AS entries, COUNT(*) AS nodes,
           SUM(n.expired) AS expired,
           CASE WHEN SUM(n.packets) > 0 THEN SUM(n.bytes) + COALESCE(SUM(n.rx_bytes), 0) END AS bytes
    FROM per_node n
    GROUP BY n.cluster, n.family, n.src_hi, n.src_lo, n.direction
    ORDER BY entries DESC, n.cluster, n.family, n.src_hi, n.src_lo, n.direction
    LIMIT :row_limit
),
pairs AS (
    SELECT t.cluster, t.family, t.src_hi, t.src_lo, t.direction, t.dst_hi, t.dst_lo,
           MIN(t.src) AS src, MIN(t.src_name) AS name
    FROM ct_latest t
    JOIN top o ON o.src_lo = t.src_lo AND o.src_hi = t.src_hi AND o.family = t.family
              AND o.direction = t.direction AND o.cluster = t.cluster
    WHERE t.direction <> 'SVC' AND t.related = FALSE
    GROUP BY t.cluster, t.family, t.src_hi, t.src_lo, t.direction, t.dst_hi, t.dst_lo
),
told AS (
    SELECT p.cluster, p.family, p.src_hi, p.src_lo, p.direction, COUNT(*) AS destinations,
           MIN(p.src) AS src, MIN(p.name) AS name
    FROM pairs p
    GROUP BY p.cluster, p.family, p.src_hi, p.src_lo, p.direction
)
SELECT o.cluster, d.src, d.name, o.direction, o.entries, o.nodes, d.destinations, o.expired, o.bytes
FROM top o
JOIN told d ON d.src_lo = o.src_lo AND d.src_hi = o.src_hi AND d.family = o.family
           AND d.direction = o.direction AND d.cluster = o.cluster
ORDER BY o.entries DESC, o.cluster, o.family, o.src_hi, o.src_lo, o.direction
