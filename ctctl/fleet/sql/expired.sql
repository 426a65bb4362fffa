-- Expired backlog: entries that have expired and were not collected, and how late the garbage collector is.
-- Where the time of a collection is not known, it is unknown what had expired.
WITH late AS (
    SELECT t.collection, COUNT(*) AS entries, COUNT(t.expired) AS timed,
           SUM(CASE WHEN t.expired = TRUE THEN 1 ELSE 0 END) AS expired,
           MIN(t.remaining_s) AS least
    FROM ct_latest t
    GROUP BY t.collection
)
SELECT c.cluster, c.node, COALESCE(l.entries, c.ct_rows) AS entries,
       CASE WHEN c.has_ct = TRUE AND COALESCE(l.timed, 0) = COALESCE(l.entries, 0) THEN COALESCE(l.expired, 0) END
           AS expired,
       CASE WHEN l.entries > 0 AND l.timed = l.entries
            THEN CAST(l.expired AS DOUBLE) / l.entries END AS share,
       CASE WHEN l.timed = l.entries AND l.least < 0 THEN -l.least END AS oldest_s,
       CASE WHEN c.has_ct = FALSE THEN 'unknown: no conntrack table was collected'
            WHEN l.timed < l.entries THEN 'unknown: the dump does not say when it was made; collect it with --now'
       END AS why
FROM collections c
LEFT JOIN late l ON l.collection = c.collection
WHERE c.latest = TRUE
ORDER BY expired DESC NULLS LAST, c.cluster, c.node
LIMIT :row_limit
