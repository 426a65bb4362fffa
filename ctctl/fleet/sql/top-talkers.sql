-- Top talkers: who opened the most connections, over all nodes. Each is counted where it was opened (OUT), and
-- where it came in (IN), by itself: what was opened outside has no OUT. Bytes only where the datapath counts them.
SELECT t.cluster, t.src, MIN(t.src_name) AS name, t.direction, COUNT(*) AS entries,
       COUNT(DISTINCT t.node) AS nodes,
       COUNT(DISTINCT t.dst) AS destinations,
       SUM(CASE WHEN t.expired = TRUE THEN 1 ELSE 0 END) AS expired,
       CASE WHEN SUM(COALESCE(t.packets, t.tx_packets)) > 0
            THEN SUM(COALESCE(t.bytes, t.tx_bytes)) + SUM(COALESCE(t.rx_bytes, 0)) END AS bytes
FROM ct_latest t
WHERE t.direction <> 'SVC' AND t.related = FALSE
GROUP BY t.cluster, t.src, t.direction
ORDER BY entries DESC, t.cluster, t.src, t.direction
LIMIT :row_limit
