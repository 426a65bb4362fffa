-- Skew between nodes: how far each node's table is from its cluster's mean, the fullest first.
WITH per_node AS (
    SELECT c.cluster, c.node, c.collection, c.has_ct, c.ct_rows AS entries, c.nat_rows AS nat_entries
    FROM collections c
    WHERE c.latest = TRUE
),
means AS (
    SELECT n.cluster, AVG(CAST(n.entries AS DOUBLE)) AS mean, COUNT(*) AS nodes
    FROM per_node n
    WHERE n.has_ct = TRUE
    GROUP BY n.cluster
)
SELECT n.cluster, n.node, n.entries, n.nat_entries, m.mean,
       CASE WHEN m.mean > 0 THEN CAST(n.entries AS DOUBLE) / m.mean END AS of_mean,
       CASE WHEN n.has_ct = FALSE THEN 'unknown: no conntrack table was collected' END AS why
FROM per_node n
LEFT JOIN means m ON m.cluster = n.cluster
ORDER BY of_mean DESC NULLS LAST, n.cluster, n.node
LIMIT :row_limit
