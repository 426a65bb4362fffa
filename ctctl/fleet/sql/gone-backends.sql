-- Entries to backends that are gone: service entries whose backend the node's backend table no longer has.
-- A node whose backends were not collected is unknown, and named.
WITH gone AS (
    SELECT s.cluster, s.node, s.collection, s.backend_id, s.rev_nat, MIN(s.service) AS service,
           COUNT(*) AS entries,
           SUM(CASE WHEN s.expired = TRUE THEN 1 ELSE 0 END) AS expired,
           COUNT(s.expired) AS timed
    FROM ct_latest s
    LEFT JOIN backends_latest b ON b.backend_id = s.backend_id AND b.collection = s.collection
    WHERE s.direction = 'SVC' AND s.backend_id > 0 AND b.backend_id IS NULL
    GROUP BY s.cluster, s.node, s.collection, s.backend_id, s.rev_nat
),
-- Where the table was not read every backend seems to be gone, and this is all that is known.
unjudged AS (
    SELECT g.collection, SUM(g.entries) AS entries
    FROM gone g
    GROUP BY g.collection
)
SELECT g.cluster, g.node, CAST(g.backend_id AS DECIMAL(20, 0)) AS backend_id, g.rev_nat, g.service, g.entries,
       CASE WHEN g.timed = g.entries THEN g.expired END AS expired,
       'gone' AS verdict, CAST(NULL AS VARCHAR(200)) AS why
FROM gone g
JOIN collections c ON c.collection = g.collection
WHERE c.has_backends = TRUE AND c.complete = TRUE
UNION ALL
SELECT c.cluster, c.node, CAST(NULL AS DECIMAL(20, 0)), CAST(NULL AS INTEGER), CAST(NULL AS VARCHAR(200)),
       CASE WHEN c.has_ct = TRUE THEN COALESCE(u.entries, 0) END, CAST(NULL AS BIGINT), 'unknown',
       CASE WHEN c.has_ct = FALSE THEN 'no conntrack table was collected'
            WHEN c.has_backends = FALSE THEN 'no backend table was collected: lb list --backends tells'
            ELSE 'the collection is not complete' END
FROM collections c
LEFT JOIN unjudged u ON u.collection = c.collection
WHERE c.latest = TRUE AND (c.has_ct = FALSE OR c.has_backends = FALSE OR c.complete = FALSE)
ORDER BY 8, 6 DESC, 1, 2, 3, 4
LIMIT :row_limit
