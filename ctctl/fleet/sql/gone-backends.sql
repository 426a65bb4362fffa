-- Entries to backends that are gone: service entries whose backend the node's backend table no longer has.
-- A node whose backends were not collected is unknown, and named.
WITH chosen AS (
    SELECT s.cluster, s.node, s.collection, s.backend_id, s.rev_nat, MIN(s.service) AS service,
           COUNT(*) AS entries,
           SUM(CASE WHEN s.expired = TRUE THEN 1 ELSE 0 END) AS expired,
           COUNT(s.expired) AS timed
    FROM ct_latest s
    WHERE s.direction = 'SVC' AND s.backend_id > 0
    GROUP BY s.cluster, s.node, s.collection, s.backend_id, s.rev_nat
)
SELECT k.cluster, k.node, CAST(k.backend_id AS DECIMAL(20, 0)) AS backend_id, k.rev_nat, k.service, k.entries,
       CASE WHEN k.timed = k.entries THEN k.expired END AS expired,
       'gone' AS verdict, CAST(NULL AS VARCHAR(200)) AS why
FROM chosen k
JOIN collections c ON c.collection = k.collection
WHERE c.has_backends = TRUE AND c.complete = TRUE
  AND NOT EXISTS (SELECT 1 FROM backends_latest b
                  WHERE b.collection = k.collection AND b.backend_id = k.backend_id)
UNION ALL
SELECT c.cluster, c.node, CAST(NULL AS DECIMAL(20, 0)), CAST(NULL AS INTEGER), CAST(NULL AS VARCHAR(200)),
       SUM(k.entries), CAST(NULL AS BIGINT), 'unknown',
       CASE WHEN MIN(CASE WHEN c.has_ct = TRUE THEN 1 ELSE 0 END) = 0 THEN 'no conntrack table was collected'
            WHEN MIN(CASE WHEN c.has_backends = TRUE THEN 1 ELSE 0 END) = 0
                THEN 'no backend table was collected: lb list --backends tells'
            ELSE 'the collection is not complete' END
FROM collections c
LEFT JOIN chosen k ON k.collection = c.collection
WHERE c.latest = TRUE AND (c.has_ct = FALSE OR c.has_backends = FALSE OR c.complete = FALSE)
GROUP BY c.cluster, c.node
ORDER BY 8, 6 DESC, 1, 2, 3, 4
LIMIT :row_limit
