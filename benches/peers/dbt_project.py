"""The same models as a dbt project over DuckDB, as its documentation has one written: silver incremental, gold as tables.

Events come late, so silver takes those whose id it does not have; a filter on the newest time would lose some. Averages and
distinct counts have no incremental form in dbt: gold is computed anew.
"""

import json
import pathlib

import models

PROJECT = """name: peer
version: "1.0"
profile: peer
model-paths: [models]
macro-paths: [macros]
flags:
  send_anonymous_usage_stats: false
"""

# A schema is called what the model says, and not the target's name and that.
MACROS = """{% macro generate_schema_name(custom_schema_name, node) %}{{ custom_schema_name or target.schema }}{% endmacro %}
"""

SILVER = """{{ config(materialized='incremental', incremental_strategy='append', schema='silver', alias='events') }}
SELECT event_id, event_type, event_time, event_date, user_user_id, location_country, page_url,
       engagement_duration_ms, engagement_scroll_depth, properties_price, user_agent_device
FROM (SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY event_time) AS place FROM %s
      {%% if is_incremental() %%} WHERE event_id NOT IN (SELECT event_id FROM {{ this }}) {%% endif %%}) AS ordered
WHERE place = 1
"""

GOLD = """{{ config(materialized='table', schema='gold', alias='%s') }}
%s
"""


def write(project, parquet, database):
    """Writes the project into a directory; `dbt run --project-dir DIR --profiles-dir DIR` then runs it."""
    project = pathlib.Path(project)
    outputs = {"dev": {"type": "duckdb", "path": str(database), "threads": 2}}
    files = {
        "dbt_project.yml": PROJECT,
        # JSON is YAML.
        "profiles.yml": json.dumps({"peer": {"target": "dev", "outputs": outputs}}),
        "macros/schemas.sql": MACROS,
        "models/silver_events.sql": SILVER % f"read_parquet('{parquet}/**/*.parquet', hive_partitioning=true)",
    }
    for name, sql in models.gold("duckdb").items():
        files[f"models/gold_{name}.sql"] = GOLD % (name, sql.replace("silver.events", "{{ ref('silver_events') }}"))
    for name, text in files.items():
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
