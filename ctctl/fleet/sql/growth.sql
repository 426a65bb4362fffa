-- Growth between two collections: each node's newest collection beside the one before it.
WITH numbered AS (
    SELECT c.cluster, c.node, c.collected_at, c.boot_id, c.ct_rows, c.nat_rows,
           ROW_NUMBER() OVER (PARTITION BY c.cluster, c.node ORDER BY c.collected_at DESC, c.collection) AS age
    FROM collections c
)
SELECT n.cluster, n.node, o.collected_at AS before_at, n.collected_at AS after_at,
       o.ct_rows AS before_entries, n.ct_rows AS after_entries, n.ct_rows - o.ct_rows AS growth,
       n.nat_rows - o.nat_rows AS nat_growth,
       CASE WHEN o.boot_id IS NULL OR n.boot_id IS NULL THEN NULL ELSE o.boot_id <> n.boot_id END AS rebooted,
       CASE WHEN o.cluster IS NULL THEN 'unknown: there is only one collection of it'
            WHEN o.ct_rows IS NULL OR n.ct_rows IS NULL THEN 'unknown: one of the two has no conntrack table' END AS why
FROM numbered n
LEFT JOIN numbered o ON o.cluster = n.cluster AND o.node = n.node AND o.age = 2
WHERE n.age = 1
ORDER BY growth DESC NULLS LAST, n.cluster, n.node
LIMIT :row_limit
