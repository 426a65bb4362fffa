-- Who would be hurt if this node went (:node): peers on other nodes with live connections to its pods or from them.
WITH pods AS (
    SELECT DISTINCT e.cluster, e.family, e.addr_hi, e.addr_lo, e.addr, e.name
    FROM endpoints_latest e
    WHERE e.node = :node AND NOT e.host
),
-- Both ends of a connection by themselves, so that each joins by its address.
ends AS (
    SELECT t.cluster, t.node, p.addr AS pod, p.name AS pod_name, t.src AS peer, t.src_name AS peer_name,
           'to it' AS way, t.dst_port AS port, t.proto
    FROM ct_latest t
    JOIN pods p ON p.cluster = t.cluster AND p.family = t.family AND p.addr_hi = t.dst_hi AND p.addr_lo = t.dst_lo
    WHERE t.direction = 'OUT' AND t.node <> :node AND t.related = FALSE AND (t.expired = FALSE OR t.expired IS NULL)
    UNION ALL
    SELECT t.cluster, t.node, p.addr, p.name, t.dst, t.dst_name, 'from it', t.dst_port, t.proto
    FROM ct_latest t
    JOIN pods p ON p.cluster = t.cluster AND p.family = t.family AND p.addr_hi = t.src_hi AND p.addr_lo = t.src_lo
    WHERE t.direction = 'IN' AND t.node <> :node AND t.related = FALSE AND (t.expired = FALSE OR t.expired IS NULL)
)
SELECT e.cluster, e.node AS hurt_node, e.peer, MIN(e.peer_name) AS peer_name, e.way, e.pod,
       MIN(e.pod_name) AS pod_name, e.proto, e.port, COUNT(*) AS connections, CAST(NULL AS VARCHAR(200)) AS why
FROM ends e
GROUP BY e.cluster, e.node, e.peer, e.way, e.pod, e.proto, e.port
UNION ALL
SELECT c.cluster, c.node, CAST(NULL AS VARCHAR(200)), CAST(NULL AS VARCHAR(200)), CAST(NULL AS VARCHAR(200)),
       CAST(NULL AS VARCHAR(200)), CAST(NULL AS VARCHAR(200)), CAST(NULL AS INTEGER), CAST(NULL AS INTEGER),
       CAST(NULL AS BIGINT),
       CASE WHEN c.node = :node THEN 'unknown: the endpoints of this node were not collected'
            ELSE 'unknown: no conntrack table of this node was collected' END
FROM collections c
WHERE c.latest = TRUE AND ((c.node = :node AND c.has_endpoints = FALSE) OR (c.node <> :node AND c.has_ct = FALSE))
ORDER BY 10 DESC NULLS FIRST, 1, 2, 3, 5, 6, 8, 9
LIMIT :row_limit
