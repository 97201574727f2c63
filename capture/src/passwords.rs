//! Passwords where PostgreSQL's own clients have them: `PGPASSWORD`, and `~/.pgpass`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The password for host, port, database and user.
pub(crate) async fn of_environment(place: [&str; 4]) -> Option<String> {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Some(password);
    }
    let file = match std::env::var_os("PGPASSFILE") {
        Some(file) => PathBuf::from(file),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".pgpass"),
    };
    // One that others may read is passed over, as PostgreSQL's own clients do.
    let mode = tokio::fs::metadata(&file).await.ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!("'{}' is not read: others may read it; chmod 600 it", file.display());
        return None;
    }
    in_file(&tokio::fs::read_to_string(file).await.ok()?, place)
}

/// The password of the first line whose fields are these, or `*`.
fn in_file(text: &str, place: [&str; 4]) -> Option<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(fields);
    let of_place = |fields: &Vec<String>| {
        fields.len() == 5 && fields.iter().zip(place).all(|(field, wanted)| field == "*" || field == wanted)
    };
    lines.into_iter().find(of_place).and_then(|mut fields| fields.pop())
}

/// The five fields of a line; colons and backslashes in them have a backslash before them.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut letters) = (vec![String::new()], line.chars());
    while let Some(letter) = letters.next() {
        let letter = match letter {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => letters.next().unwrap_or('\\'),
            letter => letter,
        };
        if let Some(field) = fields.last_mut() {
            field.push(letter);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# mine\ndb:5432:shop:me:a\\:b\\\\c\n*:*:other:*:x:y\n";
        assert_eq!(in_file(text, ["db", "5432", "shop", "me"]).as_deref(), Some("a:b\\c"));
        assert_eq!(in_file(text, ["any", "1", "other", "me"]).as_deref(), Some("x:y"));
        assert_eq!(in_file(text, ["db", "5432", "shop", "you"]), None);
    }
}
