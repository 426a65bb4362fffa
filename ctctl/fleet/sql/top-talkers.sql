-- Top talkers: who opened the most connections, over all nodes. Each is counted where it was opened (OUT), and
-- where it came in (IN), by itself: what was opened outside has no OUT. Bytes only where the datapath counts them.
WITH counted AS (
    -- By the text of the address, which is one column of few words where its numbers are three.
    SELECT t.cluster, t.src, t.direction, COUNT(*) AS entries
    FROM ct_latest t
    WHERE t.direction <> 'SVC' AND t.related = FALSE
    GROUP BY t.cluster, t.src, t.direction
    ORDER BY entries DESC, t.cluster, t.direction DESC, t.src
    LIMIT :row_limit
),
-- All else is read of the first rows alone, which have a number each, and once: a lake has 10^8 rows.
top AS (
    SELECT c.cluster, c.src, c.direction, c.entries,
           ROW_NUMBER() OVER (ORDER BY c.entries DESC, c.cluster, c.direction DESC, c.src) AS place
    FROM counted c
),
theirs AS (
    SELECT o.place, t.node, t.src_name, t.dst, t.expired,
           COALESCE(t.packets, t.tx_packets) AS packets, COALESCE(t.bytes, t.tx_bytes) AS bytes, t.rx_bytes
    FROM ct_latest t
    JOIN top o ON o.src = t.src AND o.cluster = t.cluster AND o.direction = t.direction
    WHERE t.direction <> 'SVC' AND t.related = FALSE
),
on_node AS (
    SELECT m.place, m.node, MIN(m.src_name) AS name,
           SUM(CASE WHEN m.expired = TRUE THEN 1 ELSE 0 END) AS expired,
           SUM(m.packets) AS packets, SUM(m.bytes) AS bytes, SUM(m.rx_bytes) AS rx_bytes
    FROM theirs m
    GROUP BY m.place, m.node
),
pairs AS (
    SELECT DISTINCT m.place, m.dst FROM theirs m
),
of_all AS (
    SELECT n.place, COUNT(*) AS nodes, MIN(n.name) AS name, SUM(n.expired) AS expired,
           CASE WHEN SUM(n.packets) > 0 THEN SUM(n.bytes) + COALESCE(SUM(n.rx_bytes), 0) END AS bytes
    FROM on_node n
    GROUP BY n.place
),
ends AS (
    SELECT p.place, COUNT(*) AS destinations FROM pairs p GROUP BY p.place
)
SELECT o.cluster, o.src, a.name, o.direction, o.entries, a.nodes, e.destinations, a.expired, a.bytes
FROM top o
JOIN of_all a ON a.place = o.place
JOIN ends e ON e.place = o.place
ORDER BY o.place
