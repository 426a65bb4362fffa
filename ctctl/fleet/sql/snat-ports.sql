-- SNAT ports per egress and remote: where the range that SNAT gives out is running low, the fullest first.
-- The limit holds for each egress address, remote end and protocol by itself. Ports from :first_port up.
WITH ports AS (
    SELECT n.cluster, n.node, n.to_addr AS egress, n.dst AS remote, n.dst_port AS remote_port, n.proto,
           COUNT(DISTINCT CASE WHEN n.to_port >= :first_port THEN n.to_port END) AS ports,
           COUNT(*) AS entries
    FROM nat_latest n
    WHERE n.direction = 'OUT' AND n.related = FALSE
    GROUP BY n.cluster, n.node, n.to_addr, n.dst, n.dst_port, n.proto
)
SELECT p.cluster, p.node, p.egress, p.remote, p.remote_port, p.proto, p.ports, p.entries,
       CAST(p.ports AS DOUBLE) / (65536 - :first_port) AS share, CAST(NULL AS VARCHAR(200)) AS why
FROM ports p
UNION ALL
SELECT c.cluster, c.node, CAST(NULL AS VARCHAR(200)), CAST(NULL AS VARCHAR(200)), CAST(NULL AS INTEGER),
       CAST(NULL AS INTEGER), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS DOUBLE),
       'unknown: no SNAT table was collected'
FROM collections c
WHERE c.latest = TRUE AND c.has_nat = FALSE
ORDER BY 9 DESC NULLS LAST, 8 DESC, 1, 2, 3, 4, 5, 6
LIMIT :row_limit
