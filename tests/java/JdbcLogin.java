// Logs in over TLS with the JDBC driver that DBeaver ships: by a password, by a token in its place, by a token alone.
//
//     java --add-opens=java.base/java.nio=ALL-UNNAMED -cp DRIVER.jar JdbcLogin.java HOST PORT SIGNER USER PASSWORD TOKEN [CERTIFICATE KEY]
//
// Files are in PEM; the last two are for a server that asks for them. Prints each thing that held; ends with 1 and the reason at
// the first that did not.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;

public final class JdbcLogin {
    private static String url;
    private static Properties trusted;

    public static void main(String[] args) {
        try {
            url = "jdbc:arrow-flight-sql://" + args[0] + ":" + args[1] + "/";
            trusted = new Properties();
            trusted.put("tlsRootCerts", args[2]);
            if (args.length > 6) {
                trusted.put("clientCertificate", args[6]);
                trusted.put("clientKey", args[7]);
            }
            asks("a password", args[3], args[4]);
            asks("a token in its place", args[3], args[5]);
            isRefused("another password", args[3], "another password", "password is wrong");
            isRefused("a user that is not there", "nobody", args[4], "password is wrong");
            Properties bearer = with(trusted);
            bearer.put("token", args[5]);
            asks("a token", bearer);
            Properties stranger = with(trusted);
            stranger.remove("tlsRootCerts");
            stranger.put("user", args[3]);
            stranger.put("password", args[4]);
            isRefused("a signer that nobody knows", stranger, "");
            // The driver's own threads would keep the process.
            System.exit(0);
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static Properties with(Properties some) {
        Properties more = new Properties();
        more.putAll(some);
        return more;
    }

    private static Properties of(String user, String password) {
        Properties login = with(trusted);
        login.put("user", user);
        login.put("password", password);
        return login;
    }

    private static void asks(String how, String user, String password) throws SQLException {
        asks(how, of(user, password));
    }

    private static void asks(String how, Properties login) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url, login);
                ResultSet rows = connection.createStatement().executeQuery("SELECT count(*) AS n FROM gold.revenue")) {
            if (!rows.next() || rows.getLong("n") == 0) {
                throw new IllegalStateException(how + ": no answer");
            }
        }
        System.out.println("ok " + how);
    }

    private static void isRefused(String how, String user, String password, String reason) {
        isRefused(how, of(user, password), reason);
    }

    private static void isRefused(String how, Properties login, String reason) {
        try (Connection connection = DriverManager.getConnection(url, login)) {
            throw new IllegalStateException(how + " was let in");
        } catch (SQLException refused) {
            if (!String.valueOf(refused).contains(reason)) {
                throw new IllegalStateException(how + ": " + refused, refused);
            }
        }
        System.out.println("ok " + how);
    }
}
