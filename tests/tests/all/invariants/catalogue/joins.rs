//! Joins of every kind, subqueries, and operations on sets.

use super::{Shape, query};

pub(super) const JOINS: Shape = Shape {
    name: "joins",
    queries: &[
        query(
            "gold.inner",
            "SELECT r.event_id, r.kind, r.n, p.city FROM silver.rows r JOIN silver.people p ON r.who = p.who",
        ),
        query(
            "gold.left",
            "SELECT r.event_id, r.who, p.city FROM silver.rows r LEFT JOIN silver.people p ON r.who = p.who",
        ),
        query(
            "gold.right",
            "SELECT r.event_id, p.who, p.city
             FROM silver.rows r RIGHT JOIN silver.people p ON r.who = p.who AND r.n > 6",
        ),
        query(
            "gold.full",
            "SELECT r.event_id, c.id, coalesce(r.kind, c.kind) AS kind FROM silver.rows r FULL JOIN silver.current c
             ON r.kind = c.kind AND r.n = c.n",
        ),
        query(
            "gold.left_where",
            "SELECT p.who, p.city FROM silver.people p LEFT JOIN silver.rows r ON r.who = p.who AND r.n > 18
             WHERE r.event_id IS NULL",
        ),
        query(
            "gold.null_safe",
            "SELECT r.event_id, c.id FROM silver.rows r JOIN silver.current c ON r.kind IS NOT DISTINCT FROM c.kind",
        ),
        query(
            "gold.copies",
            "SELECT a.kind, a.n, b.y FROM silver.raw a JOIN silver.raw b ON a.event_id = b.event_id WHERE a.n > 3",
        ),
        query(
            "gold.self",
            "SELECT a.event_id AS one, b.event_id AS other FROM silver.rows a JOIN silver.rows b
             ON a.who = b.who AND a.kind = b.kind AND a.event_id < b.event_id AND b.sec - a.sec BETWEEN -1800 AND 1800",
        ),
        query(
            "gold.three",
            "SELECT r.event_id, p.city, c.id FROM silver.rows r JOIN silver.people p ON r.who = p.who
             JOIN silver.current c ON c.kind = r.kind AND c.n > 2",
        ),
        query(
            "gold.left_of_left",
            "SELECT r.event_id, p.city, c.id FROM silver.rows r LEFT JOIN silver.people p ON r.who = p.who
             LEFT JOIN silver.current c ON c.kind = p.city WHERE r.n > 4",
        ),
        query(
            "gold.greater",
            "SELECT r.event_id, c.id FROM silver.rows r JOIN silver.current c ON r.n BETWEEN c.n AND c.n + 1",
        ),
        query(
            "gold.kind_and_greater",
            "SELECT r.event_id, c.id FROM silver.rows r JOIN silver.current c ON r.kind = c.kind AND r.n > c.n",
        ),
        query(
            "gold.of_thirds",
            "SELECT r.event_id, c.id FROM silver.rows r JOIN silver.current c ON r.n % 7 = c.n % 7 WHERE r.flag",
        ),
        query(
            "gold.cross",
            "SELECT r.event_id, r.n, m.most FROM silver.rows r CROSS JOIN (SELECT max(n) AS most FROM silver.rows) m",
        ),
        query("gold.cross_cities", "SELECT p.city, c.id FROM silver.people p CROSS JOIN silver.current c"),
        query(
            "gold.as_of",
            "SELECT event_id, id, seq FROM (
                 SELECT r.event_id, c.id, c.seq,
                     row_number() OVER (PARTITION BY r.event_id ORDER BY c.seq DESC NULLS LAST,
                         c.event_id DESC) AS place
                 FROM silver.rows r JOIN silver.changes c ON c.kind = r.kind AND c.seq <= r.n
             ) WHERE place = 1",
        ),
        query(
            "gold.joined_groups",
            "SELECT p.city, count(*) AS rows, sum(r.n) AS n, count(DISTINCT r.kind) AS kinds
             FROM silver.rows r JOIN silver.people p ON r.who = p.who GROUP BY p.city",
        ),
        query(
            "gold.left_groups",
            "SELECT p.who, count(r.event_id) AS rows, sum(r.price) AS price FROM silver.people p
             LEFT JOIN silver.rows r ON r.who = p.who GROUP BY p.who",
        ),
        query(
            "gold.current_pairs",
            "SELECT a.id AS one, b.id AS other, a.kind FROM silver.current a
             JOIN silver.current b ON a.kind = b.kind AND a.id < b.id",
        ),
        query(
            "gold.with_values",
            "SELECT v.label, r.event_id FROM (VALUES (1, 'one'), (3, 'three')) AS v (i, label)
             LEFT JOIN silver.rows r ON r.n = v.i",
        ),
        query(
            "gold.with_top",
            "SELECT r.event_id, t.id FROM silver.rows r
             JOIN (SELECT id, kind FROM silver.current ORDER BY n DESC NULLS LAST, id LIMIT 2) t ON t.kind = r.kind",
        ),
        query("gold.using", "SELECT who, p.city, kind FROM silver.people p JOIN silver.rows r USING (who) WHERE n > 0"),
    ],
};

pub(super) const SUBQUERIES: Shape = Shape {
    name: "subqueries",
    queries: &[
        query("gold.in_list", "SELECT event_id FROM silver.rows WHERE kind IN (SELECT kind FROM silver.current)"),
        query(
            "gold.exists",
            "SELECT event_id,
             who FROM silver.rows r WHERE EXISTS (SELECT 1 FROM silver.people p WHERE p.who = r.who AND p.city <>
             'rome')",
        ),
        query(
            "gold.not_exists",
            "SELECT event_id,
             who FROM silver.rows r WHERE NOT EXISTS (SELECT 1 FROM silver.people p WHERE p.who = r.who)",
        ),
        query(
            "gold.not_in",
            "SELECT event_id, n FROM silver.rows WHERE n NOT IN (SELECT seq FROM silver.changes WHERE seq IS NOT NULL)",
        ),
        query("gold.not_in_nulls", "SELECT event_id, n FROM silver.rows WHERE n NOT IN (SELECT n FROM silver.current)"),
        query("gold.above_mean", "SELECT event_id, n FROM silver.rows WHERE n > (SELECT avg(n) FROM silver.rows)"),
        query(
            "gold.scalar",
            "SELECT kind, count(*) AS rows, (SELECT count(*) FROM silver.rows) AS all_rows FROM silver.rows
             GROUP BY kind",
        ),
        query(
            "gold.correlated",
            "SELECT p.who, (SELECT count(*) FROM silver.rows r WHERE r.who = p.who) AS rows FROM silver.people p",
        ),
        query(
            "gold.above_own",
            "SELECT event_id,
             n FROM silver.rows r WHERE n >= (SELECT max(s.n) FROM silver.rows s WHERE s.kind = r.kind)",
        ),
        query(
            "gold.in_or",
            "SELECT event_id, n FROM silver.rows WHERE kind IN (SELECT kind FROM silver.current WHERE n > 5) OR n > 10",
        ),
        query(
            "gold.busy",
            "SELECT event_id, who FROM silver.rows
             WHERE who IN (SELECT who FROM silver.rows GROUP BY who HAVING count(*) > 12)",
        ),
        query(
            "gold.exists_later",
            "SELECT r.event_id FROM silver.rows r
             WHERE EXISTS (SELECT 1 FROM silver.changes c WHERE c.kind = r.kind AND c.seq > r.n)",
        ),
        query(
            "gold.none_later",
            "SELECT r.event_id FROM silver.rows r
             WHERE NOT EXISTS (SELECT 1 FROM silver.changes c WHERE c.kind = r.kind AND c.seq > r.n)",
        ),
        query(
            "gold.recursive",
            "WITH RECURSIVE steps AS (SELECT 1 AS step UNION ALL SELECT step + 1 FROM steps WHERE step < 4)
             SELECT s.step, count(r.event_id) AS rows FROM steps s LEFT JOIN silver.rows r ON r.n = s.step
             GROUP BY s.step",
        ),
        query(
            "gold.twice",
            "WITH per AS (SELECT who, count(*) AS rows FROM silver.rows GROUP BY who)
             SELECT a.who, b.who AS fewer FROM per a JOIN per b ON a.rows > b.rows",
        ),
        query(
            "gold.twice_filtered",
            "WITH flagged AS (SELECT event_id, who, n FROM silver.rows WHERE flag)
             SELECT a.event_id, b.n FROM flagged a JOIN flagged b ON a.who = b.who AND b.n = 3",
        ),
    ],
};

pub(super) const SET_OPERATIONS: Shape = Shape {
    name: "set operations",
    queries: &[
        query("gold.union", "SELECT kind, n FROM silver.rows UNION SELECT kind, n FROM silver.current"),
        query("gold.except", "SELECT who FROM silver.rows EXCEPT SELECT who FROM silver.people"),
        query("gold.intersect", "SELECT kind, n FROM silver.rows INTERSECT SELECT kind, n FROM silver.current"),
        query(
            "gold.except_all",
            "SELECT kind FROM (
                 SELECT kind, row_number() OVER (PARTITION BY kind) AS copy FROM silver.raw
                 EXCEPT SELECT kind, row_number() OVER (PARTITION BY kind) FROM silver.current)",
        ),
        query(
            "gold.intersect_all",
            "SELECT kind, n FROM (
                 SELECT kind, n, row_number() OVER (PARTITION BY kind, n) AS copy FROM silver.raw
                 INTERSECT SELECT kind, n, row_number() OVER (PARTITION BY kind, n) FROM silver.current)",
        ),
    ],
};
