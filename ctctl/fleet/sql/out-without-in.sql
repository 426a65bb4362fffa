-- Seen OUT here and IN nowhere: connections that left a pod and never came to the pod they are for.
-- Only what must be there is called missing: the destination is a pod of a node whose tables of that kind were read
-- whole, while the connection was known to exist. Else the verdict is unknown, and why.
WITH pods AS (
    SELECT e.family, e.addr_hi, e.addr_lo, e.collection,
           MIN(e.node) AS node, MIN(e.cluster) AS cluster, MIN(e.name) AS name
    FROM endpoints_latest e
    WHERE NOT e.host
    GROUP BY e.family, e.addr_hi, e.addr_lo, e.collection
),
-- Millions are compared by their number alone; only of the few that are left everything is read.
come AS (
    SELECT i.cluster, i.flow FROM ct_latest i WHERE i.direction = 'IN'
),
gone AS (
    SELECT o.cluster, o.flow FROM ct_latest o WHERE o.direction = 'OUT' AND o.related = FALSE
    EXCEPT
    SELECT c.cluster, c.flow FROM come c
),
lonely AS (
    SELECT o.cluster, o.node, o.proto, o.src, o.src_port, o.src_name, o.dst, o.dst_port, o.state,
           o.family, o.dst_hi, o.dst_lo, o.collected_at, o.expires_at, o.last_seen_at
    FROM ct_latest o
    JOIN gone g ON g.flow = o.flow AND g.cluster = o.cluster
    WHERE o.direction = 'OUT' AND o.related = FALSE
      AND (o.expired = FALSE OR o.expired IS NULL)
      -- LBLoopback, Nat64, ProxyRedirect: the pod sees another tuple
      AND o.flags % 8 < 4 AND o.flags % 16 < 8 AND o.flags % 128 < 64
)
SELECT l.cluster, l.node, l.proto, l.src, l.src_port, l.src_name, l.dst, l.dst_port, p.name AS dst_name,
       p.node AS missing_on, l.state,
       CASE
           WHEN c.has_ct = FALSE OR c.complete = FALSE THEN 'unknown'
           WHEN l.proto = 6 AND l.family = 4 AND c.has_ipv4_tcp = FALSE THEN 'unknown'
           WHEN l.proto <> 6 AND l.family = 4 AND c.has_ipv4_other = FALSE THEN 'unknown'
           WHEN l.proto = 6 AND l.family = 6 AND c.has_ipv6_tcp = FALSE THEN 'unknown'
           WHEN l.proto <> 6 AND l.family = 6 AND c.has_ipv6_other = FALSE THEN 'unknown'
           WHEN l.collected_at <= c.collected_at AND l.expires_at > c.collected_at THEN 'missing'
           WHEN l.collected_at > c.collected_at AND l.last_seen_at <= c.collected_at
                AND l.expires_at > l.collected_at THEN 'missing'
           ELSE 'unknown'
       END AS verdict,
       CASE
           WHEN c.has_ct = FALSE THEN 'no conntrack table of that node was collected'
           WHEN c.complete = FALSE THEN 'that node''s collection is not complete'
           WHEN (l.proto = 6 AND l.family = 4 AND c.has_ipv4_tcp = FALSE)
             OR (l.proto <> 6 AND l.family = 4 AND c.has_ipv4_other = FALSE)
             OR (l.proto = 6 AND l.family = 6 AND c.has_ipv6_tcp = FALSE)
             OR (l.proto <> 6 AND l.family = 6 AND c.has_ipv6_other = FALSE)
             THEN 'that node''s table for this protocol was not collected'
           WHEN l.expires_at IS NULL THEN 'the time of the collection here is not known'
           WHEN l.collected_at <= c.collected_at AND l.expires_at > c.collected_at THEN NULL
           WHEN l.collected_at > c.collected_at AND l.last_seen_at <= c.collected_at
                AND l.expires_at > l.collected_at THEN NULL
           ELSE 'the two nodes were collected too far apart'
       END AS why
FROM lonely l
JOIN pods p ON p.family = l.family AND p.addr_hi = l.dst_hi AND p.addr_lo = l.dst_lo AND p.cluster = l.cluster
JOIN collections c ON c.collection = p.collection
UNION ALL
SELECT c.cluster, c.node, CAST(NULL AS INTEGER), CAST(NULL AS VARCHAR(200)), CAST(NULL AS INTEGER),
       CAST(NULL AS VARCHAR(200)), CAST(NULL AS VARCHAR(200)), CAST(NULL AS INTEGER), CAST(NULL AS VARCHAR(200)),
       CAST(NULL AS VARCHAR(200)), CAST(NULL AS VARCHAR(200)), 'unknown',
       CASE WHEN c.has_ct = FALSE THEN 'no conntrack table was collected: what left its pods is not known'
            ELSE 'no endpoints were collected: connections to its pods are not judged' END
FROM collections c
WHERE c.latest = TRUE AND (c.has_ct = FALSE OR c.has_endpoints = FALSE)
ORDER BY 12, 1, 2, 7, 8, 4, 5, 3
LIMIT :row_limit
