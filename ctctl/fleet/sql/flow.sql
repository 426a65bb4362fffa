-- One flow on every node: each entry of one connection, and of its way back, wherever it was seen.
-- :proto 0 is any protocol, a port 0 any port.
SELECT t.cluster, t.node, t.collected_at, t.direction, t.related, t.proto,
       t.src, t.src_port, t.src_name, t.dst, t.dst_port, t.dst_name,
       t.state, t.expired, t.remaining_s, t.service, t.backend_id, t.map
FROM ct_latest t
WHERE (:proto = 0 OR t.proto = :proto) AND t.family = :family
  AND ((t.src_hi = :src_hi AND t.src_lo = :src_lo AND t.dst_hi = :dst_hi AND t.dst_lo = :dst_lo
        AND (:src_port = 0 OR t.src_port = :src_port) AND (:dst_port = 0 OR t.dst_port = :dst_port))
    OR (t.src_hi = :dst_hi AND t.src_lo = :dst_lo AND t.dst_hi = :src_hi AND t.dst_lo = :src_lo
        AND (:src_port = 0 OR t.dst_port = :src_port) AND (:dst_port = 0 OR t.src_port = :dst_port)))
ORDER BY t.cluster, t.node, t.direction, t.src, t.src_port, t.dst_port, t.proto, t.related
LIMIT :row_limit
