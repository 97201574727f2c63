//! Where columns come from: of the starter's models, and of a join, a window, a union and a subquery.

use crate::shop::{Shop, says};

#[test]
fn lineage_says_of_every_column_where_it_comes_from() {
    let shop = Shop::with_tables();
    assert_eq!(
        shop.done(&["lineage", "gold.revenue"]),
        "gold.revenue\n  \
           reads      silver.purchases\n  \
           read by    nothing\n  \
           rows       chosen by silver.purchases (country, currency, event_date)\n  \
           column     day: silver.purchases.event_date\n  \
           column     country: computed from silver.purchases.country\n  \
           column     currency: computed from silver.purchases.currency\n  \
           column     purchases: from no column\n  \
           column     buyers: computed from silver.purchases.user_id\n  \
           column     items: computed from silver.purchases.quantity\n  \
           column     revenue: computed from silver.purchases.amount\n  \
           column     avg_purchase: computed from silver.purchases.amount\n"
    );
    let text = shop.done(&["lineage"]);
    assert_eq!(text.matches("\n  reads ").count(), 12, "{text}");
    says(
        &text,
        &[
            // The first copy of an event wins.
            "silver.events\n  reads      bronze.events\n  read by    gold.cohort_retention, gold.daily_activity,",
            "rows       chosen by bronze.events (_offset, event_id)",
            "column     user_id: bronze.events.user_user_id",
            "column     amount: computed from silver.events (price, quantity)",
            // A list, unnested.
            "silver.interactions\n  reads      silver.events\n  read by    nothing\n  rows       chosen by silver.events.interactions",
            "column     interaction_type: computed from silver.events.interactions",
            // Grouped, joined with itself.
            "rows       chosen by silver.events (event_date, user_id)",
            "column     days_since: computed from silver.events.event_date",
            // An aggregate of some rows.
            "column     new_users: computed from silver.events.user_id; chosen by silver.events.is_new_user",
        ],
    );
}

#[test]
fn a_join_a_window_a_union_and_a_subquery() {
    let shop = Shop::with_tables();
    shop.edit(
        "sql/silver/journeys.sql",
        "SELECT e.event_id, s.converted AS done, s.device\nFROM silver.events e JOIN silver.sessions s ON e.session_id = s.session_id\n",
    );
    shop.edit(
        "sql/gold/steps.sql",
        "SELECT event_id,\n  row_number() OVER (PARTITION BY session_id ORDER BY event_time) AS step,\n  \
         lag(event_type) OVER (PARTITION BY session_id ORDER BY event_time) AS after_which\nFROM silver.events\n",
    );
    shop.edit(
        "sql/gold/touched.sql",
        "SELECT event_id, page_url AS page, 'view' AS what FROM silver.page_views\n\
         UNION ALL SELECT event_id, upper(page), 'purchase' FROM silver.purchases\n",
    );
    shop.edit(
        "sql/gold/bought.sql",
        "SELECT page, count(*) AS views FROM silver.page_views\n\
         WHERE user_id IN (SELECT user_id FROM silver.purchases WHERE amount > 0) GROUP BY page\n",
    );
    let text = shop.done(&["lineage", "silver.journeys", "gold.steps", "gold.touched", "gold.bought"]);
    says(
        &text,
        &[
            "silver.journeys\n  reads      silver.events, silver.sessions\n",
            "rows       chosen by silver.events.session_id, silver.sessions.session_id\n",
            "column     event_id: silver.events.event_id\n  column     done: silver.sessions.converted\n",
            // No row of it hangs on the windows, and no tie that the ORDER BY leaves is told of.
            "gold.steps\n  reads      silver.events\n  read by    nothing\n  column     event_id: silver.events.event_id\n",
            "column     step: chosen by silver.events (event_time, session_id)\n",
            "column     after_which: computed from silver.events.event_type; chosen by silver.events (event_time, session_id)\n",
            "column     event_id: silver.page_views.event_id, silver.purchases.event_id\n",
            "column     page: silver.page_views.page_url; computed from silver.purchases.page\n  column     what: from no column\n",
            "rows       chosen by silver.page_views (page, user_id), silver.purchases (amount, user_id)\n",
            "column     page: silver.page_views.page\n  column     views: from no column\n",
        ],
    );
    let rows = shop.done(&["lineage", "gold.touched", "-o", "csv"]);
    assert_eq!(
        rows,
        "model,column,from_table,from_column,how\n\
         gold.touched,event_id,silver.page_views,event_id,taken\n\
         gold.touched,event_id,silver.purchases,event_id,taken\n\
         gold.touched,page,silver.page_views,page_url,taken\n\
         gold.touched,page,silver.purchases,page,computed\n\
         gold.touched,what,,,computed\n"
    );
    let one = shop.done(&["lineage", "gold.bought.views", "-o", "csv"]);
    assert_eq!(one.lines().filter(|line| line.starts_with("gold.bought,views,")).count(), 4, "{one}");
    assert_eq!(one.lines().count(), 5, "{one}");
    // The lake tells the same.
    let order = "SELECT * FROM lakebed.column_lineage ORDER BY 1, 2, 3, 4";
    let told = shop.done(&["query", order, "-o", "csv"]);
    let mut said: Vec<String> = shop.done(&["lineage", "-o", "csv"]).lines().skip(1).map(str::to_owned).collect();
    let mut told: Vec<String> = told.lines().skip(1).map(str::to_owned).collect();
    said.sort();
    told.sort();
    assert!(said == told && said.len() > 100, "{said:?}\n{told:?}");
    says(&shop.done(&["lineage", "-o", "json"]), &[r#""how":"chosen""#, r#""from_table":null"#]);
}

#[test]
fn a_name_that_is_none_is_answered_with_the_nearest() {
    let shop = Shop::with_tables();
    let said = shop.fails(&["lineage", "gold.revenue.contry"], 1);
    says(&said, &["there is no column 'gold.revenue.contry'", "did you mean 'gold.revenue.country'?"]);
    says(
        &shop.fails(&["lineage", "gold.revenu"], 1),
        &["there is no table 'gold.revenu'", "did you mean 'gold.revenue'?"],
    );
    says(&shop.fails(&["lineage", "gold.revenu.day"], 1), &["there is no table 'gold.revenu'", "'gold.revenue'?"]);
    let said = shop.fails(&["lineage", "bronze.events.country"], 1);
    says(&said, &["bronze.events is the log", "lakebed.column_lineage", "from_table = 'bronze.events'"]);
}
