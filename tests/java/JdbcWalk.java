// Walks a lakebed Flight SQL server with the JDBC driver that DBeaver ships, by the calls that DBeaver makes.
//
//     java --add-opens=java.base/java.nio=ALL-UNNAMED -cp DRIVER.jar JdbcWalk.java HOST PORT VERSION
//
// VERSION is an earlier version of the lake with fewer events than the newest. Prints each thing that held; ends with 1 and the
// reason at the first that did not. It asks the server which tables it has, so it runs against any lake with a
// gold.revenue that has a key and a `relationships` check to silver.events.

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Time;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Calendar;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TimeZone;
import java.util.concurrent.TimeUnit;

public class JdbcWalk {
    static final String CATALOG = "lakebed";

    static String url;

    /** The driver's threads would keep the process alive after a failure. */
    public static void main(String[] arguments) {
        try {
            walk(arguments);
        } catch (Throwable failed) {
            failed.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }

    static void walk(String[] arguments) throws Exception {
        if (arguments.length != 3) {
            System.err.println("usage: JdbcWalk HOST PORT VERSION");
            System.exit(2);
        }
        url = "jdbc:arrow-flight-sql://" + arguments[0] + ":" + arguments[1] + "/?useEncryption=false";
        try (Connection connection = DriverManager.getConnection(url)) {
            Map<String, Map<String, Integer>> tables = objects(connection);
            describes(connection);
            keys(connection);
            reads(connection, tables);
            parameters(connection);
            refusals(connection);
            cancels(connection);
        }
        logsIn();
        travels(Long.parseLong(arguments[2]));
    }

    static void check(boolean condition, String what) {
        if (!condition) {
            System.err.println("did not hold: " + what);
            System.exit(1);
        }
        System.out.println("ok  " + what);
    }

    interface Rows {
        void take(ResultSet row) throws SQLException;
    }

    static int each(ResultSet rows, Rows taken) throws SQLException {
        int count = 0;
        try (rows) {
            while (rows.next()) {
                taken.take(rows);
                count++;
            }
        }
        return count;
    }

    static List<String> texts(ResultSet rows, String column) throws SQLException {
        List<String> texts = new ArrayList<>();
        each(rows, row -> texts.add(row.getString(column)));
        return texts;
    }

    static long number(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    /** The object tree: catalogs, schemas, tables, columns. Gives the JDBC type of each column of each table. */
    static Map<String, Map<String, Integer>> objects(Connection connection) throws SQLException {
        DatabaseMetaData about = connection.getMetaData();
        check(texts(about.getCatalogs(), "TABLE_CAT").equals(List.of(CATALOG)), "one catalog");
        List<String> schemas = texts(about.getSchemas(), "TABLE_SCHEM");
        check(schemas.containsAll(List.of("bronze", "gold", "information_schema", "lakebed", "silver")), "schemas " + schemas);
        check(texts(about.getSchemas(CATALOG, "gol%"), "TABLE_SCHEM").equals(List.of("gold")), "schemas by pattern");
        check(texts(about.getTableTypes(), "TABLE_TYPE").equals(List.of("TABLE", "VIEW")), "table types");
        Map<String, Map<String, Integer>> tables = new LinkedHashMap<>();
        Map<String, String> remarks = new LinkedHashMap<>();
        each(about.getTables(CATALOG, null, "%", new String[] {"TABLE", "VIEW"}), row -> {
            String name = row.getString("TABLE_SCHEM") + "." + row.getString("TABLE_NAME");
            tables.put(name, new LinkedHashMap<>());
            remarks.put(name, row.getString("REMARKS"));
            boolean computed = name.startsWith("lakebed.") || name.startsWith("information_schema.");
            check(row.getString("TABLE_TYPE").equals(computed ? "VIEW" : "TABLE"), "  " + name);
        });
        check(tables.size() > 10, tables.size() + " tables");
        check(texts(about.getTables(CATALOG, "gold", "revenue", null), "TABLE_NAME").equals(List.of("revenue")), "one by name");
        check(texts(about.getTables(CATALOG, "gold", "%", new String[] {"VIEW"}), "TABLE_NAME").isEmpty(), "no views in gold");
        each(about.getColumns(CATALOG, null, "%", "%"), row -> {
            String table = row.getString("TABLE_SCHEM") + "." + row.getString("TABLE_NAME");
            check(row.getString("TYPE_NAME") != null && row.getInt("ORDINAL_POSITION") > 0, "  a column of " + table);
            tables.get(table).put(row.getString("COLUMN_NAME"), row.getInt("DATA_TYPE"));
        });
        tables.forEach((name, columns) -> check(!columns.isEmpty(), name + " has " + columns.size() + " columns"));
        check(texts(about.getColumns(CATALOG, "gold", "revenue", "%"), "COLUMN_NAME").size()
            == tables.get("gold.revenue").size(), "the columns of one table");
        return tables;
    }

    /** Every getter without arguments, as DBeaver asks them when it connects; and the listings that may be empty. */
    static void describes(Connection connection) throws Exception {
        DatabaseMetaData about = connection.getMetaData();
        int asked = 0;
        for (Method method : DatabaseMetaData.class.getMethods()) {
            if (method.getParameterCount() > 0 || method.getDeclaringClass() != DatabaseMetaData.class) {
                continue;
            }
            answered(method, about);
            asked++;
        }
        check(asked > 120, asked + " getters of DatabaseMetaData are answered");
        check(about.getDatabaseProductName().equals("lakebed"), "product " + about.getDatabaseProductVersion());
        check(about.isReadOnly() && about.getIdentifierQuoteString().equals("\""), "read-only, names in quotes");
        check(about.getSearchStringEscape().equals("\\"), "patterns are escaped with a backslash");
        check(about.getSQLKeywords() != null && about.getNumericFunctions().contains("sqrt"), "functions are listed");
        check(about.supportsTransactions(), "abilities");
        check(connection.getCatalog() == null || connection.getCatalog().equals(CATALOG), "catalog " + connection.getCatalog());
        check(connection.isValid(5), "the connection is valid");
        for (String listing : List.of("getTypeInfo", "getClientInfoProperties")) {
            answered(DatabaseMetaData.class.getMethod(listing), about);
        }
        Class<?> text = String.class;
        listing(about, "getProcedures", new Class<?>[] {text, text, text}, CATALOG, null, "%");
        listing(about, "getFunctions", new Class<?>[] {text, text, text}, CATALOG, null, "%");
        listing(about, "getIndexInfo", new Class<?>[] {text, text, text, boolean.class, boolean.class}, CATALOG, "gold", "revenue",
            false, true);
        listing(about, "getTablePrivileges", new Class<?>[] {text, text, text}, CATALOG, "gold", "%");
        listing(about, "getVersionColumns", new Class<?>[] {text, text, text}, CATALOG, "gold", "revenue");
    }

    static void listing(DatabaseMetaData about, String name, Class<?>[] types, Object... arguments) throws Exception {
        answered(DatabaseMetaData.class.getMethod(name, types), about, arguments);
    }

    static void answered(Method method, DatabaseMetaData about, Object... arguments) throws Exception {
        try {
            Object answer = method.invoke(about, arguments);
            if (answer instanceof ResultSet rows) {
                each(rows, row -> { });
            }
        } catch (InvocationTargetException failed) {
            failed.getCause().printStackTrace();
            check(false, method.getName() + " is answered");
        }
    }

    static void keys(Connection connection) throws SQLException {
        DatabaseMetaData about = connection.getMetaData();
        List<String> key = texts(about.getPrimaryKeys(CATALOG, "gold", "revenue"), "COLUMN_NAME");
        check(!key.isEmpty(), "gold.revenue has the key " + key);
        check(texts(about.getImportedKeys(CATALOG, "gold", "revenue"), "FK_NAME").size() == 1, "and refers to another table");
        check(texts(about.getExportedKeys(CATALOG, "silver", "events"), "FK_NAME").size() == 1, "which knows of it");
        each(about.getCrossReference(CATALOG, "silver", "events", CATALOG, "gold", "revenue"), row -> {
            check(row.getString("PKTABLE_NAME").equals("events") && row.getInt("KEY_SEQ") == 1, "  by one column");
        });
    }

    /** Every table: as many rows as it says, every value read, in the types that were listed. */
    static void reads(Connection connection, Map<String, Map<String, Integer>> tables) throws SQLException {
        for (Map.Entry<String, Map<String, Integer>> table : tables.entrySet()) {
            String[] name = table.getKey().split("\\.", 2);
            String quoted = "\"" + CATALOG + "\".\"" + name[0] + "\".\"" + name[1] + "\"";
            // The driver has each column twice for an empty result of a plain statement (apache/arrow-java#44).
            try (PreparedStatement statement = connection.prepareStatement("SELECT * FROM " + quoted + " LIMIT 500")) {
                ResultSetMetaData columns = statement.getMetaData();
                ResultSet rows = statement.executeQuery();
                check(columns.getColumnCount() == table.getValue().size(), table.getKey() + " has the listed columns");
                for (int column = 1; column <= columns.getColumnCount(); column++) {
                    int listed = table.getValue().get(columns.getColumnLabel(column));
                    check(listed == columns.getColumnType(column), "  " + columns.getColumnLabel(column) + " is "
                        + columns.getColumnTypeName(column));
                }
                int read = each(rows, row -> {
                    for (int column = 1; column <= columns.getColumnCount(); column++) {
                        // The driver has no object for this type; DBeaver asks for a timestamp.
                        boolean zoned = columns.getColumnType(column) == Types.TIMESTAMP_WITH_TIMEZONE;
                        Object value = zoned ? row.getTimestamp(column) : row.getObject(column);
                        if (value == null && !row.wasNull()) {
                            check(false, "    a value or a null in " + columns.getColumnLabel(column));
                        }
                        row.getString(column);
                    }
                });
                check(read >= 0, "  " + read + " rows");
            }
        }
        check(number(connection, "SELECT count(*) FROM gold.revenue WHERE false") == 0, "no rows are no error");
        try (Statement statement = connection.createStatement()) {
            statement.setMaxRows(7);
            check(each(statement.executeQuery("SELECT * FROM bronze.events"), row -> { }) == 7, "at most seven rows");
            check(statement.execute("SELECT 1"), "execute says that there are rows");
            check(each(statement.executeQuery("EXPLAIN SELECT count(*) FROM gold.revenue"), row -> { }) > 0, "EXPLAIN");
        }
    }

    static void parameters(Connection connection) throws SQLException {
        String sql = "SELECT CAST(? AS BIGINT) AS a, CAST(? AS INT) AS b, CAST(? AS DOUBLE) AS c, CAST(? AS BOOLEAN) AS d, "
            + "CAST(? AS DATE) AS e, CAST(? AS TIMESTAMP) AS f, CAST(? AS DECIMAL(10, 2)) AS g, ? AS h, CAST(? AS TIME) AS i";
        Calendar utc = Calendar.getInstance(TimeZone.getTimeZone("UTC"));
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            check(statement.getParameterMetaData().getParameterCount() == 9, "nine parameters");
            for (long round = 1; round <= 2; round++) {
                statement.setLong(1, round << 40);
                statement.setInt(2, (int) round);
                statement.setDouble(3, 1.5);
                statement.setBoolean(4, true);
                statement.setDate(5, Date.valueOf("2026-11-23"), utc);
                statement.setTimestamp(6, new Timestamp(1_700_000_000_000L), utc);
                statement.setBigDecimal(7, new BigDecimal("12.34"));
                statement.setString(8, "it's ü");
                statement.setTime(9, new Time(45_296_000L), utc);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    check(rows.getLong("a") == round << 40 && rows.getInt("b") == round, "numbers come back");
                    check(rows.getDouble("c") == 1.5 && rows.getBoolean("d"), "  and a double and a boolean");
                    check(rows.getString("e").equals("2026-11-23"), "  and a date");
                    check(rows.getTimestamp("f", utc).getTime() == 1_700_000_000_000L, "  and a timestamp");
                    check(rows.getString("i").startsWith("12:34:56"), "  and a time");
                    check(rows.getBigDecimal("g").compareTo(new BigDecimal("12.34")) == 0, "  and a decimal");
                    check(rows.getString("h").equals("it's ü"), "  and a text");
                }
            }
        }
        try (PreparedStatement statement = connection.prepareStatement(
                "SELECT count(*) FROM bronze.events WHERE event_type = ? AND event_time > ? LIMIT ?")) {
            statement.setString(1, "no such type");
            statement.setTimestamp(2, new Timestamp(0), utc);
            statement.setLong(3, 1);
            try (ResultSet rows = statement.executeQuery()) {
                check(rows.next() && rows.getLong(1) == 0, "parameters of a filter and of LIMIT");
            }
            statement.setString(1, "page_view");
            try (ResultSet rows = statement.executeQuery()) {
                check(rows.next() && rows.getLong(1) > 0, "of which some hold");
            }
            statement.setTimestamp(2, new Timestamp(4_000_000_000_000L), utc);
            try (ResultSet rows = statement.executeQuery()) {
                check(rows.next() && rows.getLong(1) == 0, "and no event is after a far time");
            }
            statement.setNull(1, Types.VARCHAR);
            try (ResultSet rows = statement.executeQuery()) {
                check(rows.next() && rows.getLong(1) == 0, "and a null");
            }
        }
    }

    static String refused(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            each(statement.executeQuery(sql), row -> { });
        } catch (SQLException refused) {
            Throwable last = refused;
            StringBuilder said = new StringBuilder();
            for (; last != null; last = last.getCause()) {
                said.append(last.getMessage()).append('\n');
            }
            return said.toString();
        }
        check(false, "refused: " + sql);
        return "";
    }

    static void refusals(Connection connection) throws SQLException {
        check(refused(connection, "SELECT * FROM gold.revenu").contains("did you mean 'gold.revenue'"), "the nearest table");
        check(refused(connection, "SELECT (1 FROM gold.revenue").contains("Line: 1"), "a syntax error has its place");
        check(refused(connection, "DROP TABLE gold.revenue").contains("only queries"), "a write is refused");
        check(refused(connection, "SELECT 1 / (count(*) - count(*)) FROM gold.revenue").contains("ivide by zero"), "a fault");
        check(number(connection, "SELECT 41 + 1") == 42, "the connection lives on");
    }

    /** A result that is being read is stopped, and the connection goes on. */
    static void cancels(Connection connection) throws Exception {
        Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT a.value, b.value FROM generate_series(1, 100000) a, generate_series(1, 100000) b");
        check(rows.next(), "a result without an end in sight");
        long began = System.nanoTime();
        statement.cancel();
        try {
            while (rows.next()) { }
        } catch (SQLException stopped) {
            // It says so, or there are just no more rows.
        }
        statement.close();
        check(System.nanoTime() - began < TimeUnit.SECONDS.toNanos(120), "is cancelled");
        check(number(connection, "SELECT 1") == 1, "and the connection lives on");
    }

    static void logsIn() throws SQLException {
        Properties properties = new Properties();
        properties.put("user", "anyone");
        properties.put("password", "a:b");
        Connection connection = DriverManager.getConnection(url + "&catalog=" + CATALOG, properties);
        check(number(connection, "SELECT count(*) FROM revenue") > 0, "a user, a password and a catalog");
        try {
            connection.close();
        } catch (SQLException twice) {
            // With a catalog, 18.3 closes its session a second time, after its channel.
            check(twice.getMessage().contains("Channel shutdown"), "it closes as far as the driver can");
        }
    }

    /** A property that the driver does not know is a header of every call: it pins a version for tools that write their own SQL. */
    static void travels(long version) throws SQLException {
        String events = "SELECT count(*) FROM bronze.events";
        String seen = "SELECT count(*) FROM silver.events";
        try (Connection connection = DriverManager.getConnection(url)) {
            long now = number(connection, events);
            long then = number(connection, events + " VERSION AS OF " + version);
            check(then < now, then + " events at version " + version + ", and " + now + " now");
            long silver = number(connection, seen + " VERSION AS OF " + version);
            check(silver < number(connection, seen), "and so does silver");
            try (Connection pinned = DriverManager.getConnection(url + "&lakebed-as-of=" + version)) {
                check(number(pinned, events) == then && number(pinned, seen) == silver, "a pinned connection reads it");
            }
            try (Connection plain = DriverManager.getConnection(url + "&lakebed-types=jdbc")) {
                Statement statement = plain.createStatement();
                each(statement.executeQuery("SELECT event_time FROM bronze.events LIMIT 1"), row ->
                    check(row.getObject(1) instanceof Timestamp, "a time is an object where jdbc's types are asked for"));
                statement.close();
            }
            try (Connection plain = DriverManager.getConnection(url + "&lakebed-types=grafana")) {
                Statement statement = plain.createStatement();
                ResultSetMetaData columns = statement.executeQuery("SELECT sum(1.5) AS a").getMetaData();
                check(Arrays.asList(Types.DOUBLE, Types.FLOAT).contains(columns.getColumnType(1)), "types that are asked for");
                statement.close();
            }
        }
    }
}
