//! Seeds, and what is joined with them: rows that come, rows that go, groups; and seeds where they are no side of a join.

use super::{Shape, query, seed};

pub(super) const SEEDS: Shape = Shape {
    name: "seeds",
    queries: &[
        seed(
            "seeds.towns",
            "town,country,place,share,since,big\nrome,IT,1,0.5,2001-02-03,true\noslo,NO,2,,2010-10-10,false\n\
             oslo,no,3,1.25,,true\nk1,,4,2.0,1999-01-01,\n\"\",\"X, X\",5,-0.5,2020-02-29,false\n",
            "SELECT town, country, CAST(place AS BIGINT) AS place, CAST(share AS DOUBLE) AS share,
                 CAST(since AS DATE) AS since, big
             FROM (VALUES ('rome', 'IT', 1, 0.5, '2001-02-03', true), ('oslo', 'NO', 2, NULL, '2010-10-10', false),
                 ('oslo', 'no', 3, 1.25, NULL, true), ('k1', NULL, 4, 2.0, '1999-01-01', NULL),
                 ('', 'X, X', 5, -0.5, '2020-02-29', false)) AS t (town, country, place, share, since, big)",
        ),
        seed(
            "seeds.kinds",
            "kind,code,weight\nk0,007,1\nk1,012,2\ndé,1e5,3\nk9,099,\nvoid,000,5\n,500,6\nk1,013,9\n",
            "SELECT kind, code, CAST(weight AS BIGINT) AS weight
             FROM (VALUES ('k0', '007', 1), ('k1', '012', 2), ('dé', '1e5', 3), ('k9', '099', NULL), ('void', '000', 5),
                 (NULL, '500', 6), ('k1', '013', 9)) AS t (kind, code, weight)",
        ),
    ],
};

pub(super) const SEEDED: Shape = Shape {
    name: "seeded",
    queries: &[
        query(
            "gold.seeded",
            "SELECT r.event_id, r.n, k.code, k.weight FROM silver.rows r JOIN seeds.kinds k ON r.kind = k.kind",
        ),
        query(
            "gold.seeded_left",
            "SELECT r.event_id, r.kind, r.n, k.code FROM silver.rows r
             LEFT JOIN seeds.kinds k ON r.kind = k.kind AND k.weight > 1",
        ),
        query(
            "gold.seeded_right",
            "SELECT r.event_id, k.code FROM seeds.kinds k RIGHT JOIN silver.rows r ON r.kind = k.kind",
        ),
        query(
            "gold.seeded_log",
            "SELECT e.event_id, e.n + k.weight AS more FROM seeds.kinds k JOIN bronze.events e ON e.kind = k.kind
             WHERE k.code <> '007'",
        ),
        query(
            "gold.seeded_from_seed",
            "SELECT k.code, r.event_id FROM seeds.kinds k LEFT JOIN silver.rows r ON r.kind = k.kind AND r.n > 4",
        ),
        query(
            "gold.seeded_full",
            "SELECT k.code, r.event_id FROM seeds.kinds k FULL JOIN silver.rows r ON r.kind = k.kind AND r.n = k.weight",
        ),
        query(
            "gold.seeded_unmet",
            "SELECT t.town, t.place FROM seeds.towns t
             WHERE NOT EXISTS (SELECT 1 FROM silver.people p WHERE p.city = t.town)",
        ),
        query(
            "gold.seeded_between",
            "SELECT r.event_id, k.code FROM silver.rows r JOIN seeds.kinds k ON r.n BETWEEN k.weight AND k.weight + 1",
        ),
        query(
            "gold.seeded_cross",
            "SELECT r.event_id, t.town, t.share FROM silver.rows r CROSS JOIN seeds.towns t WHERE r.flag",
        ),
        query(
            "gold.seeded_in",
            "SELECT event_id, kind FROM silver.rows WHERE kind IN (SELECT kind FROM seeds.kinds WHERE weight > 1)",
        ),
        query(
            "gold.seeded_not_in",
            "SELECT event_id, n FROM silver.rows WHERE n NOT IN (SELECT weight FROM seeds.kinds WHERE weight > 0)",
        ),
        query(
            "gold.seeded_not_in_nulls",
            "SELECT event_id, n FROM silver.rows WHERE n NOT IN (SELECT weight FROM seeds.kinds)",
        ),
        query(
            "gold.seeded_exists",
            "SELECT r.event_id FROM silver.rows r
             WHERE EXISTS (SELECT 1 FROM seeds.kinds k WHERE k.kind = r.kind AND k.weight < r.n)",
        ),
        query(
            "gold.seeded_not_exists",
            "SELECT r.event_id, r.kind FROM silver.rows r
             WHERE NOT EXISTS (SELECT 1 FROM seeds.kinds k WHERE k.kind = r.kind)",
        ),
        query(
            "gold.seeded_in_or",
            "SELECT event_id, n FROM silver.rows WHERE kind IN (SELECT kind FROM seeds.kinds WHERE weight > 5) OR n > 10",
        ),
        query(
            "gold.seeded_scalar",
            "SELECT event_id, n FROM silver.rows WHERE n > (SELECT avg(weight) FROM seeds.kinds)",
        ),
        query(
            "gold.seeded_correlated",
            "SELECT r.event_id, (SELECT max(k.weight) FROM seeds.kinds k WHERE k.kind = r.kind) AS weight
             FROM silver.rows r",
        ),
        query(
            "gold.seeded_top",
            "SELECT r.event_id, t.code FROM silver.rows r
             JOIN (SELECT kind, code FROM seeds.kinds ORDER BY weight DESC NULLS LAST, code LIMIT 3) t ON t.kind = r.kind",
        ),
        query(
            "gold.seeded_counts",
            "SELECT r.event_id, k.codes, k.weight FROM silver.rows r
             JOIN (SELECT kind, count(*) AS codes, sum(weight) AS weight FROM seeds.kinds GROUP BY kind) k
             ON k.kind = r.kind",
        ),
        query(
            "gold.seeded_groups",
            "SELECT k.code, count(*) AS rows, sum(r.n) AS n, min(r.y) AS y FROM silver.rows r
             LEFT JOIN seeds.kinds k ON r.kind = k.kind GROUP BY k.code",
        ),
        query(
            "gold.seeded_distinct",
            "SELECT DISTINCT k.code, r.who FROM silver.rows r JOIN seeds.kinds k ON r.kind = k.kind",
        ),
        query(
            "gold.seeded_current",
            "SELECT c.id, c.n, k.code FROM silver.current c JOIN seeds.kinds k ON c.kind = k.kind",
        ),
        query(
            "gold.seeded_left_current",
            "SELECT c.id, c.seq, k.code FROM silver.current c LEFT JOIN seeds.kinds k ON c.kind = k.kind",
        ),
        query(
            "gold.seeded_current_groups",
            "SELECT k.code, count(*) AS ids, sum(c.n) AS n FROM silver.current c
             JOIN seeds.kinds k ON c.kind = k.kind GROUP BY k.code",
        ),
        query(
            "gold.seeded_current_maximum",
            "SELECT k.code, max(c.n) AS n FROM silver.current c JOIN seeds.kinds k ON c.kind = k.kind GROUP BY k.code",
        ),
        query(
            "gold.seeded_people",
            "SELECT p.who, p.city, t.country, t.since, t.big FROM silver.people p LEFT JOIN seeds.towns t ON p.city = t.town",
        ),
        query(
            "gold.seeded_latest",
            "SELECT who, event_id, code FROM (
                 SELECT r.who, r.event_id, k.code, row_number() OVER (PARTITION BY r.who
                     ORDER BY k.weight DESC NULLS LAST, r.event_id DESC, k.code) AS place
                 FROM silver.rows r JOIN seeds.kinds k ON r.kind = k.kind
             ) WHERE place = 1",
        ),
        query(
            "gold.seeded_window",
            "SELECT r.event_id, k.code, sum(k.weight) OVER (PARTITION BY r.who) AS weight
             FROM silver.rows r JOIN seeds.kinds k ON r.kind = k.kind",
        ),
        query(
            "gold.seeded_of_groups",
            "SELECT g.kind, g.rows, k.code FROM (SELECT kind, count(*) AS rows FROM silver.rows GROUP BY kind) g
             LEFT JOIN seeds.kinds k ON k.kind = g.kind",
        ),
        query("gold.seeded_union", "SELECT kind, n FROM silver.rows UNION ALL SELECT kind, weight FROM seeds.kinds"),
        query(
            "gold.seeded_union_of_joined",
            "SELECT r.event_id, k.code FROM silver.rows r JOIN seeds.kinds k ON r.kind = k.kind
             UNION ALL SELECT kind, code FROM seeds.kinds",
        ),
        query("gold.seeded_except", "SELECT kind FROM seeds.kinds EXCEPT SELECT kind FROM silver.rows"),
        query(
            "gold.seeded_twice",
            "SELECT p.who, t.country, k.code FROM silver.people p JOIN seeds.towns t ON t.town = p.city
             LEFT JOIN seeds.kinds k ON k.kind = t.town AND k.weight > t.place / 2",
        ),
        query(
            "gold.seeded_by_seeds",
            "SELECT r.event_id, t.country FROM silver.rows r
             JOIN (SELECT t.country, k.kind FROM seeds.towns t JOIN seeds.kinds k ON k.weight = t.place) t
             ON t.kind = r.kind",
        ),
        query("gold.seeded_alone", "SELECT town, count(*) AS countries, max(since) AS since FROM seeds.towns GROUP BY town"),
        query("gold.seeded_as_it_is", "SELECT * FROM seeds.towns"),
        query("gold.seeded_layers", "SELECT code, count(*) AS rows, sum(n) AS n FROM gold.seeded_left GROUP BY code"),
        query(
            "gold.seeded_layers_of_groups",
            "SELECT l.code, l.rows, k.weight FROM gold.seeded_layers l JOIN seeds.kinds k ON k.code = l.code",
        ),
        query(
            "gold.seeded_values",
            "SELECT r.event_id, v.label FROM silver.rows r
             JOIN (VALUES (1, 'one'), (3, 'three'), (3, 'drei')) AS v (i, label) ON r.n = v.i",
        ),
    ],
};
